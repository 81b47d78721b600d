"""Settling: each applies only while its fence holds; the attempt of one that does not is kept all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, assert_never

from callback_middleware.delivery import Dead, Delivered, Fence, Released, Retry, Settlement
from callback_middleware.outbox.columns import microseconds, storable
from callback_middleware.outbox.records import ATTEMPT_COLUMNS
from callback_middleware.outbox.sqlite.newcomers import accept
from callback_middleware.outbox.sqlite.outcomes import attempt_row
from callback_middleware.outbox.sqlite.results import Ended, finish
from callback_middleware.outbox.sqlite.rows import Row
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.outbox.sqlite.subscribing import end
from callback_middleware.states import Event, State, advance
from callback_middleware.subscription import SubscriptionKey

_MOST_AT_ONCE: Final = 500
_READ: Final = (
    "SELECT id, delivery.seq, fence, leased, claims, attempts, run, callback, subscription_key, subscription_owner, "
    "generation, delivery.origin_key, asked = delivery.seq AND live > 1 FROM delivery LEFT JOIN queue USING (seq) "
    "LEFT JOIN origin ON origin.origin_key = delivery.origin_key WHERE id IN (%s)"
)
_ATTEMPT: Final = f"({', '.join('?' * len(ATTEMPT_COLUMNS))})"


class _Known(NamedTuple):
    """What the file has of a delivery; what belongs to the queue is None where it is not queued.

    Others are ``kept`` waiting by it where its receiver is a newcomer.
    """

    id: bytes
    seq: int
    fence: int | None
    leased: int | None
    claims: int
    attempts: int
    run: int
    callback: str
    subscription_key: str | None
    subscription_owner: str | None
    generation: int | None
    origin: int
    kept: int | None


class _Waiting(NamedTuple):
    """What becomes of a queue row that stays; in the order of the statement's parameters."""

    due_at: int
    ready: int
    suspect: int
    claims: int
    attempts: int
    reason: str | None
    seq: int


_STAY: Final = (
    "UPDATE queue SET leased = 0, due_at = ?, ready = ?, suspect = ?, claims = ?, attempts = ?, "
    "reason = coalesce(?, reason) WHERE seq = ?"
)


class Settled(NamedTuple):
    """Which applied, and when the first of what became due again is due."""

    applied: frozenset[Fence]
    due: int | None


def settle(store: Store, settlements: Sequence[Settlement]) -> Settled:
    """Record what became of claims, in one commit."""
    now = store.ground.now()
    applied: list[Fence] = []
    dues: list[int] = []
    store.check_file()
    with store.transaction():
        for start in range(0, len(settlements), _MOST_AT_ONCE):
            part = settlements[start : start + _MOST_AT_ONCE]
            dues.extend(_settle_part(store, part, now, applied))
    return Settled(frozenset(applied), min(dues, default=None))


def _settle_part(store: Store, settlements: Sequence[Settlement], now: int, applied: list[Fence]) -> Sequence[int]:
    ids = list({settlement.fence.delivery.bytes for settlement in settlements})
    rows = map(_Known._make, store.fetch(_READ % ", ".join("?" * len(ids)), ids))
    known = {row.id: row for row in rows}
    made: list[Row] = []
    ended: list[Ended] = []
    waiting: list[_Waiting] = []
    accepted: list[int] = []
    for settlement in settlements:
        row = known.get(settlement.fence.delivery.bytes)
        if row is None:
            continue
        if settlement.attempt is not None:
            made.append(attempt_row(row.seq, settlement.fence.number, settlement.attempt))
        if row.fence != settlement.fence.number or not row.leased:
            continue
        applied.append(settlement.fence)
        # A fence is good for one settlement, also within one call.
        known[row.id] = row._replace(leased=0)
        result = _decide(row, settlement, now)
        if isinstance(result, Ended):
            ended.append(result)
        else:
            waiting.append(result)
        if isinstance(settlement.verdict, Delivered):
            accepted.append(row.origin)
        if isinstance(settlement.verdict, Dead) and settlement.verdict.gone and row.subscription_key is not None:
            key = SubscriptionKey(row.callback, row.subscription_key, row.subscription_owner)
            end(store, key, now, generation=row.generation)
    _note(store, made)
    accept(store, accepted, now)
    finish(store, ended)
    if waiting:
        store.connection.executemany(_STAY, waiting)
    # One suspect that is settled lets the next one go; and one of a newcomer's.
    freed = [now] if any(_freed(row) for row in known.values()) else []
    return [*freed, *(row.due_at for row in waiting)]


def _freed(row: _Known) -> bool:
    """Whether something else may have waited for this."""
    return row.fence is not None and (row.claims - row.attempts > 1 or bool(row.kept))


def _decide(row: _Known, settlement: Settlement, now: int) -> Ended | _Waiting:
    verdict, attempted = settlement.verdict, settlement.attempt is not None
    made = row.attempts + attempted
    match verdict:
        case Delivered():
            state = advance(State.SENDING, Event.SUCCEED)
            return Ended(row.seq, row.run, state, now, made, settlement.fence.number, "")
        case Dead(reason):
            state = advance(State.SENDING, Event.GIVE_UP)
            return Ended(row.seq, row.run, state, now, made, settlement.fence.number, storable(reason))
        case Retry(after, reason):
            return _waiting(row, now, microseconds(after), made if attempted else row.claims, made, storable(reason))
        case Released(after):
            return _waiting(row, now, microseconds(after), made if attempted else row.claims - 1, made, None)
        case _:
            assert_never(verdict)


def _waiting(row: _Known, now: int, after: int, claims: int, made: int, reason: str | None) -> _Waiting:  # noqa: PLR0917 - one row
    return _Waiting(now + after, int(after <= 0), int(claims > made), claims, made, reason, row.seq)


def _note(store: Store, made: Sequence[Row]) -> None:
    """Keep attempts: one for each fence, however often it is told."""
    if made:
        values = ", ".join([_ATTEMPT] * len(made))
        parameters: list[Any] = [column for row in made for column in row]
        store.run(
            f"INSERT INTO attempt ({', '.join(ATTEMPT_COLUMNS)}) VALUES {values} "  # noqa: S608 - names of ours
            "ON CONFLICT (delivery, fence) DO NOTHING",
            parameters,
        )
