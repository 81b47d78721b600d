"""Claiming: what is due, origin by origin in turn, leased under a new fence; and suspects, each alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from callback_middleware.backlog import claimable
from callback_middleware.delivery import Claim, Delivery, Fence
from callback_middleware.destinations import Origin
from callback_middleware.outbox.columns import microseconds, origin_key
from callback_middleware.outbox.records import DELIVERY_COLUMNS
from callback_middleware.outbox.sqlite.ground import follow, has_stepped
from callback_middleware.outbox.sqlite.newcomers import ask, newcomers
from callback_middleware.outbox.sqlite.results import Ended, finish
from callback_middleware.outbox.sqlite.rows import delivery_of, time_at
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.states import Event, State, advance
from callback_middleware.verdicts import KILLED_ITS_WORKER, SUSPICIONS

MOST_CLAIMED: Final = 1000
"""In one call, whatever is asked for: a statement names each of them."""

MOST_WOKEN: Final = 1000
"""Rows that one claim makes ready: a backlog that comes due at once is taken in by several."""

_DUE: Final = "queue INDEXED BY queue_ready WHERE ready = 1 AND suspect = 0"
_AFTER: Final = f"(SELECT min(origin_key) FROM {_DUE} AND origin_key > %s)"  # noqa: S608 - ours
_FIRST: Final = f"(SELECT min(origin_key) FROM {_DUE})"  # noqa: S608 - ours

_SOMETHING: Final = (
    f"SELECT EXISTS (SELECT 1 FROM {_DUE}), "  # noqa: S608 - ours
    "EXISTS (SELECT 1 FROM queue INDEXED BY queue_parked WHERE ready = 0 AND due_at <= ?), "
    "EXISTS (SELECT 1 FROM queue INDEXED BY queue_suspect WHERE suspect = 1 AND ready = 1)"
)

_WAKE: Final = (
    "UPDATE queue SET ready = 1, suspect = (claims > attempts) WHERE seq IN "
    "(SELECT seq FROM queue INDEXED BY queue_parked WHERE ready = 0 AND due_at <= ? ORDER BY due_at LIMIT ?)"
)

# From one origin that has something due to the next, once around, beginning after the one that was last: every step is
# one look into the index, however much is behind it. Then of each those that were due first.
_ROTATE: Final = (
    "WITH RECURSIVE turn (origin, around, visited) AS ("  # noqa: S608 - ours
    f" SELECT coalesce({_AFTER % ':last'}, {_FIRST}), {_AFTER % ':last'} IS NULL, 1"
    " UNION ALL"
    f" SELECT coalesce({_AFTER % 'origin'}, {_FIRST}), around OR {_AFTER % 'origin'} IS NULL, visited + 1"
    " FROM turn WHERE visited < :visits AND origin IS NOT NULL"
    f" AND CASE WHEN {_AFTER % 'origin'} IS NULL THEN NOT around AND {_FIRST} <= :last"
    f" ELSE NOT around OR {_AFTER % 'origin'} <= :last END"
    ") SELECT turn.origin, queue.seq FROM turn, queue WHERE queue.seq IN ("
    f" SELECT seq FROM {_DUE} AND origin_key = turn.origin ORDER BY due_at LIMIT :each)"
    " ORDER BY turn.visited, queue.due_at"
)

_SUSPECT_IS_OUT: Final = (
    "SELECT 1 FROM queue INDEXED BY queue_suspect WHERE suspect = 1 AND ready = 0 AND leased = 1 LIMIT 1"
)

_LEASE: Final = (
    "UPDATE queue SET ready = 0, leased = 1, due_at = ?, fence = fence + 1, claims = claims + 1 WHERE seq IN (%s) "
    "RETURNING seq, fence, attempts, run, reason"
)
_READ: Final = f"SELECT seq, {', '.join(DELIVERY_COLUMNS)} FROM delivery WHERE seq IN (%s)"  # noqa: S608 - ours


class _Chosen(NamedTuple):
    """What is to be claimed, and whether its origin is a newcomer."""

    seq: int
    origin: int
    newcomer: bool


class Claimed(NamedTuple):
    """What one call claimed, and the suspects that it settled dead instead."""

    claims: Sequence[Claim] = ()
    killers: Sequence[UUID] = ()


def claim(store: Store, limit: int, lease: timedelta, per_origin: int, busy: Mapping[Origin, int]) -> Claimed:
    """Lease what is due.

    It costs what it claims, what came due since the last call, the caller's busy origins, and newcomers of which
    something is out.
    """
    limit = min(limit, MOST_CLAIMED)
    now = store.ground.now()
    if not has_stepped(store.connection, store.ground, now) and not any(store.fetch(_SOMETHING, (now,))[0]):
        store.next_due = _next_due(store)
        return Claimed()
    store.check_file()
    # A claim that a power cut takes back was a claim of a process that the power cut ended.
    with store.unsynced(), store.transaction():
        follow(store.connection, store.ground, now)
        store.run(_WAKE, (now, MOST_WOKEN))
        killers = _bury(store, now)
        out = {origin_key(origin): count for origin, count in busy.items()}
        chosen = _suspect(store, out, per_origin) or _in_turn(store, limit, out, per_origin)
        claims = _lease(store, chosen, now + microseconds(lease)) if chosen else ()
        ask(store, {one.origin: one.seq for one in chosen if one.newcomer})
        store.next_due = _next_due(store)
    return Claimed(claims, killers)


def unclaim(store: Store, claims: Iterable[Claim]) -> None:
    """Take back claims that reached nobody, as if they had never been made; only their fences stay used."""
    now = store.ground.now()
    with store.unsynced(), store.transaction():
        for one in claims:
            store.run(
                "UPDATE queue SET ready = 1, leased = 0, due_at = ?, claims = claims - 1, "
                "suspect = (claims - 1 > attempts) "
                "WHERE seq = (SELECT seq FROM delivery WHERE id = ?) AND fence = ? AND leased = 1",
                (now, one.fence.delivery.bytes, one.fence.number),
            )


def extend(store: Store, claims: Iterable[Claim], lease: timedelta) -> frozenset[Fence]:
    """Lease afresh what these claims still own."""
    now = store.ground.now()
    owned: list[Fence] = []
    with store.transaction():
        follow(store.connection, store.ground, now)
        for one in claims:
            # Its lease may have ended, and nobody else have claimed it yet.
            cursor = store.run(
                "UPDATE queue SET due_at = ?, ready = 0, suspect = (claims - attempts > 1) "
                "WHERE seq = (SELECT seq FROM delivery WHERE id = ?) AND fence = ? AND leased = 1",
                (now + microseconds(lease), one.fence.delivery.bytes, one.fence.number),
            )
            if cursor.rowcount:
                owned.append(one.fence)
    return frozenset(owned)


def _next_due(store: Store) -> int | None:
    ((due,),) = store.fetch("SELECT min(due_at) FROM queue INDEXED BY queue_parked WHERE ready = 0")
    return None if due is None else int(due)


def _bury(store: Store, now: int) -> Sequence[UUID]:
    """Settle the suspects dead that were claimed too often."""
    rows = store.fetch(
        "SELECT seq, id, leased, attempts, run, fence FROM queue INDEXED BY queue_suspect JOIN delivery USING (seq) "
        "WHERE suspect = 1 AND ready = 1 AND claims - attempts >= ? LIMIT ?",
        (SUSPICIONS, MOST_CLAIMED),
    )
    ended = []
    for seq, _, leased, attempts, run, fence in rows:
        pending = advance(State.SENDING, Event.LEASE_EXPIRED) if leased else State.PENDING
        state = advance(pending, Event.GIVE_UP)
        ended.append(Ended(seq, run, state, now, attempts, fence, KILLED_ITS_WORKER.reason))
    finish(store, ended)
    return [UUID(bytes=row[1]) for row in rows]


def _suspect(store: Store, out: Mapping[int, int], per_origin: int) -> Sequence[_Chosen]:
    """The suspect whose turn it is, if there is room for it, and no other is out."""
    if store.fetch(_SUSPECT_IS_OUT):
        return ()
    waiting = store.fetch(
        "SELECT seq, origin_key FROM queue INDEXED BY queue_suspect WHERE suspect = 1 AND ready = 1 "
        "ORDER BY due_at LIMIT 256"
    )
    new = newcomers(store, {origin for _, origin in waiting})
    able = (_Chosen(seq, origin, origin in new) for seq, origin in waiting if _room(origin, new, out, per_origin))
    return list(islice(able, 1))


def _in_turn(store: Store, limit: int, out: Mapping[int, int], per_origin: int) -> Sequence[_Chosen]:
    """What is claimed: one of each origin in turn, from where the last call ended, until ``limit``."""
    lines, new = _lines(store, limit, out, per_origin)
    queues = [(origin, iter(line)) for origin, line in lines.items()]
    chosen: list[_Chosen] = []
    while queues and len(chosen) < limit:
        left = []
        for origin, line in queues:
            seq = next(line, None)
            if seq is None:
                continue
            chosen.append(_Chosen(seq, origin, origin in new))
            store.cursor = origin
            left.append((origin, line))
            if len(chosen) == limit:
                break
        queues = left
    return chosen


def _lines(
    store: Store, limit: int, out: Mapping[int, int], per_origin: int
) -> tuple[Mapping[int, Sequence[int]], Collection[int]]:
    """What may be claimed of each origin, in their turn, of ``limit`` that have room or of all; and the newcomers."""
    full = sum(count >= per_origin for count in out.values())
    while True:
        visits = limit + full
        rows = store.fetch(_ROTATE, {"last": store.cursor, "visits": visits, "each": min(per_origin, limit)})
        due: dict[int, list[int]] = {}
        for origin, seq in rows:
            due.setdefault(origin, []).append(seq)
        new = newcomers(store, due.keys())
        rooms = {origin: _room(origin, new, out, per_origin) for origin in due}
        without = sum(not room for room in rooms.values())
        # Which newcomers are out is not known before they are met: then it goes further around, beyond them.
        if without <= full or len(due) < visits:
            return {origin: line[: rooms[origin]] for origin, line in due.items()}, new
        full = without


def _room(origin: int, new: Mapping[int, bool], out: Mapping[int, int], per_origin: int) -> int:
    return claimable(per_origin, newcomer=origin in new, out=new.get(origin, False), busy=out.get(origin, 0))


def _lease(store: Store, chosen: Sequence[_Chosen], until: int) -> Sequence[Claim]:
    marks, seqs = ", ".join("?" * len(chosen)), [one.seq for one in chosen]
    leased = {row[0]: row for row in store.fetch(_LEASE % marks, (until, *seqs))}
    read = {row[0]: row[1:] for row in store.fetch(_READ % marks, seqs)}
    return [_claim(store, leased[one.seq], read[one.seq], until, newcomer=one.newcomer) for one in chosen]


def _claim(store: Store, queued: Sequence[Any], row: tuple[Any, ...], until: int, *, newcomer: bool) -> Claim:
    _, fence, attempts, run, reason = queued
    delivery: Delivery = delivery_of(
        row,
        store.policy(row[12]),
        state=State.SENDING,
        due_at=time_at(until),
        attempts=attempts,
        run=run,
        reason=reason,
    )
    return Claim(Fence(delivery.id, fence), delivery, newcomer)
