"""What operators pick out of everything that an outbox remembers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.errors import ConfigurationError
from callback_middleware.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The deliveries for which everything holds that is said here; by default all of them.

    Attributes:
        states: In one of these; empty for any.
        callback: Of this callback.
        host: To this host, as the URL has it, in lower case and without a port.
        since: Created at this time or later; aware.
        until: Created before this time; aware.
        text: Somewhere in URL, operation, reason or a tag's value, and wholly in one of them. It stands for itself: no
            character in it is a wildcard. Upper and lower case of ASCII letters are the same; of others they differ.

    Raises:
        ConfigurationError: A time without a time zone.
    """

    states: Collection[State] = ()
    callback: str | None = None
    host: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            time: datetime | None = getattr(self, name)
            if time is not None and time.utcoffset() is None:
                raise ConfigurationError(
                    f"Selection({name}={time.isoformat()}) has no time zone: give an aware datetime"
                )

    def matches(self, delivery: Delivery) -> bool:
        """Whether a delivery is one of them. An engine may ask its database instead; the meaning is this."""
        return (
            (not self.states or delivery.state in self.states)
            and (self.callback is None or delivery.callback == self.callback)
            and (self.host is None or urlsplit(delivery.url).hostname == self.host)
            and (self.since is None or delivery.created_at >= self.since)
            and (self.until is None or delivery.created_at < self.until)
            and (self.text is None or self._found_in(delivery))
        )

    def _found_in(self, delivery: Delivery) -> bool:
        text = _folded(self.text or "")
        shown = (delivery.url, delivery.operation, delivery.reason, *delivery.tags.values())
        return any(text in _folded(one) for one in shown)


class Page(NamedTuple):
    """A part of what was searched for, newest first.

    Attributes:
        deliveries: By id, the highest first: ids are made in the order of time.
        more: Give it as ``after`` for what follows; None if this was the last.
    """

    deliveries: Sequence[Delivery]
    more: UUID | None = None


def _folded(text: str) -> bytes:
    # As UTF-8, because only ASCII letters have a lower case there: databases agree on no other. Where one character
    # begins and the next ends is not lost in it.
    return text.encode("utf-8", "surrogatepass").lower()
