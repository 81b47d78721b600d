"""How much may wait to be sent: a client chooses where callbacks go, and must not make us flood anybody with them.

Pure: an outbox counts what is live, which is pending or sending, and knows which origins have ever accepted something.
What follows from that is decided here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Final, NamedTuple, assert_never

from callback_middleware.destinations import Origin
from callback_middleware.errors import ConfigurationError
from callback_middleware.values import excerpt


class Bound(enum.StrEnum):
    """A bound, by its name in :class:`BacklogLimits`."""

    PER_ORIGIN = "per_origin"
    PER_OWNER = "per_owner"
    NEWCOMER = "newcomer"


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogLimits:
    """How many deliveries may be live at a time, which is pending or sending. A put of more is refused.

    Attributes:
        per_origin: To one origin; None for no bound.
        per_owner: To the subscriptions of one owner; None for no bound. What is sent at once has no owner.
        newcomer: To an origin that has never accepted one. Of those at most one is out at a time; its first 2xx earns
            it the rest. None: nobody is a newcomer, and ``per_origin`` alone holds.

    Raises:
        ConfigurationError: A bound below 1; the message names it.
    """

    per_origin: int | None = 100_000
    per_owner: int | None = 100_000
    newcomer: int | None = 20

    def __post_init__(self) -> None:
        for one in fields(self):
            most = getattr(self, one.name)
            if most is not None and most < 1:
                raise ConfigurationError(
                    f"BacklogLimits({one.name}={most!r}) must be at least 1, or None for no bound: "
                    "with less nothing would ever be sent"
                )


BACKLOG: Final = BacklogLimits()
"""What an outbox is bounded by, unless it is told otherwise."""


class Refusal(NamedTuple):
    """Why a delivery was not stored.

    Attributes:
        bound: The one that is reached.
        most: What it allows.
        origin: Where the delivery would have gone.
    """

    bound: Bound
    most: int
    origin: Origin

    @property
    def detail(self) -> str:
        """What is full, and how an operator makes room, in a sentence that quotes no path, query or owner."""
        # What a stranger chose comes last: a log line is cut.
        match self.bound:
            case Bound.NEWCOMER:
                whom = f"a receiver that has accepted none yet, and earns more with its first 2xx: {self._where}"
            case Bound.PER_ORIGIN:
                whom = f"one receiver: {self._where}"
            case Bound.PER_OWNER:
                whom = "the subscriptions of one owner"
            case _:
                assert_never(self.bound)
        allowed = f"backlog=BacklogLimits({self.bound}={self.most})"
        return f"as many wait as {allowed} of the outbox allows, which its operator may raise, for {whom}"

    @property
    def _where(self) -> str:
        return excerpt(self.origin)


def is_newcomer(limits: BacklogLimits | None, *, accepted: bool) -> bool:
    """Whether an origin is one, that has ever ``accepted`` something or has not."""
    return limits is not None and limits.newcomer is not None and not accepted


def tightest(limits: BacklogLimits, *, accepted: bool) -> tuple[Bound, int] | None:
    """The bound that holds for an origin, and how many it allows; None for none."""
    newcomer = None if accepted else limits.newcomer
    if newcomer is not None and (limits.per_origin is None or newcomer <= limits.per_origin):
        return Bound.NEWCOMER, newcomer
    return None if limits.per_origin is None else (Bound.PER_ORIGIN, limits.per_origin)


def refusal(
    limits: BacklogLimits | None, origin: Origin, *, accepted: bool, live: int, owned: int = 0
) -> Refusal | None:
    """Why one more delivery finds no room; None if it does.

    Args:
        limits: What is allowed; None for everything.
        origin: Where it goes.
        accepted: Whether that has ever accepted something.
        live: How many are live of this origin.
        owned: How many are live of its subscription's owner; 0 for what has none.
    """
    if limits is None:
        return None
    holds = tightest(limits, accepted=accepted)
    if holds is not None and live >= holds[1]:
        return Refusal(*holds, origin)
    if limits.per_owner is not None and owned >= limits.per_owner:
        return Refusal(Bound.PER_OWNER, limits.per_owner, origin)
    return None


def claimable(per_origin: int, *, newcomer: bool, out: bool, busy: int) -> int:
    """How many deliveries of one origin may be claimed.

    Args:
        per_origin: At a time, of one that is no newcomer.
        newcomer: Whether it is one.
        out: Whether a worker, whichever, has a delivery of this newcomer.
        busy: How many the caller has.
    """
    if not newcomer:
        return max(per_origin - busy, 0)
    return 0 if out else max(min(per_origin, 1) - busy, 0)
