"""The deliveries that an outbox in memory remembers, what only it knows of each, and how many are in which state."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from callback_middleware.delivery import Delivery
from callback_middleware.errors import DeliveryNotFound
from callback_middleware.outbox.tally import Tally
from callback_middleware.outcomes import Attempt
from callback_middleware.states import Event, State, advance


@dataclass(slots=True, eq=False)
class Row:
    """A delivery and what only the outbox knows of it.

    ``claims`` counts the attempts that were settled in this run, and the claims since: where it is the higher of the
    two, a worker claimed and was never heard of again. ``attempts`` are by the fence of the claim that they were made
    under, and ``ended_at`` is when the last run ended.
    """

    delivery: Delivery
    fence: int = 0
    claims: int = 0
    attempts: dict[int, Attempt] = field(default_factory=dict)
    ended_at: datetime | None = None

    @property
    def suspicions(self) -> int:
        return self.claims - self.delivery.attempts


class Register:
    """Rows by id. Every change of a state goes through :func:`~callback_middleware.states.advance`.

    Args:
        keep: How many terminal deliveries are remembered: the last ones.
        forgotten: Told of every delivery that is remembered no longer.
        tally: Told of every delivery that comes to be live, and that is so no longer.
    """

    def __init__(self, keep: int, forgotten: Callable[[Delivery], None], tally: Tally) -> None:
        self._keep = keep
        self._forgotten = forgotten
        self._tally = tally
        self._rows: dict[UUID, Row] = {}
        self._counts: Counter[State] = Counter()
        # In the order in which they ended. An OrderedDict, because one may be taken out of the middle, and because the
        # first of a dict that loses its first ones is not found at once.
        self._ended: OrderedDict[UUID, Row] = OrderedDict()

    def __contains__(self, delivery: UUID) -> bool:
        return delivery in self._rows

    def add(self, delivery: Delivery) -> None:
        """Remember one whose id is new, and which is pending."""
        self._rows[delivery.id] = Row(delivery)
        self._counts[delivery.state] += 1
        self._tally.begin(delivery)

    def find(self, delivery: UUID) -> Row | None:
        return self._rows.get(delivery)

    def row(self, delivery: UUID) -> Row:
        """Raises :class:`~callback_middleware.errors.DeliveryNotFound`."""
        row = self._rows.get(delivery)
        if row is None:
            raise DeliveryNotFound(f"no delivery has the id {delivery}")
        return row

    def deliveries(self) -> Sequence[Delivery]:
        return [row.delivery for row in self._rows.values()]

    def ended(self) -> Sequence[Row]:
        """Those that are delivered, dead or cancelled."""
        return list(self._ended.values())

    def counts(self) -> Mapping[State, int]:
        return {state: self._counts[state] for state in State}

    def move(self, row: Row, event: Event, now: datetime, **changes: Any) -> None:
        """Change a delivery's state, and other attributes with it; forget the oldest terminal one that is too many.

        Raises:
            IllegalTransition: The state has no such event; nothing is changed.
        """
        before = row.delivery
        state = advance(before.state, event)
        row.delivery = replace(before, state=state, **changes)
        self._counts[before.state] -= 1
        self._counts[state] += 1
        if before.state.terminal:
            del self._ended[before.id]
            self._tally.begin(before)
        if state.terminal:
            self._tally.end(before)
            row.ended_at = now
            self._ended[before.id] = row
            if len(self._ended) > self._keep:
                self._forget(next(iter(self._ended.values())))

    def prune(self, before: datetime, limit: int) -> int:
        """Forget at most ``limit`` that ended before this time, the first ones first. Returns how many."""
        # All are looked at: a clock that was set back breaks their order.
        old = [row for row in self._ended.values() if row.ended_at is not None and row.ended_at < before][:limit]
        for row in old:
            self._forget(row)
        return len(old)

    def _forget(self, row: Row) -> None:
        delivery = row.delivery
        del self._rows[delivery.id]
        del self._ended[delivery.id]
        self._counts[delivery.state] -= 1
        self._forgotten(delivery)
