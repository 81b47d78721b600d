"""What is forgotten: deliveries that ended long ago, dedupe keys, subscriptions that are over, idle receivers.

A few at a time, each time in one commit, so that no put waits for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from callback_middleware.outbox.sqlite.store import Store

AT_ONCE: Final = 500
"""Rows of each kind that one call looks at."""

_KEYS: Final = "DELETE FROM dedupe WHERE rowid IN (SELECT rowid FROM dedupe WHERE until <= ? LIMIT ?)"

# A later one of the same key would count its generations from 1 again, and what a receiver says of an old
# notification would end it: so it stays as long as what was sent to it.
_SUBSCRIPTIONS: Final = (
    "DELETE FROM subscription WHERE seq IN ("
    "SELECT seq FROM subscription WHERE (ended_at < :before OR expires_at < min(:before, :now)) "
    "AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.callback = subscription.callback "
    "AND subscription_key = subscription.key) LIMIT :limit)"
)

# One that never accepted anything, and has nothing in the queue, is as good as unknown.
_ORIGINS: Final = (
    "DELETE FROM origin WHERE origin_key IN ("
    "SELECT origin_key FROM origin INDEXED BY origin_idle WHERE live = 0 AND accepted_at < ? LIMIT ?)"
)

_OTHER_RUNS: Final = "SELECT 1 FROM queue WHERE seq = :seq UNION ALL SELECT 1 FROM result WHERE delivery = :seq"


class Pruned(NamedTuple):
    """How many deliveries are forgotten, and whether there may be more to forget."""

    forgotten: int
    more: bool


def prune(store: Store, before: int | None, limit: int = AT_ONCE) -> Pruned:
    """Forget what was over before an instant; None for nothing but keys and strangers, whose time is not asked for.

    Of deliveries at most ``limit``, and no more than :data:`AT_ONCE`.
    """
    now = store.ground.now()
    # What a power cut brings back is forgotten again.
    with store.unsynced():
        with store.transaction():
            rows = [store.run(_KEYS, (now, AT_ONCE)).rowcount]
            rows.append(store.run(_ORIGINS, (max(1, min(before or 0, now)), AT_ONCE)).rowcount)
            forgotten = 0
            if before is not None:
                old = _ended(store, before, now, min(limit, AT_ONCE))
                forgotten = _forget(store, old)
                subscriptions = {"before": before, "now": now, "limit": AT_ONCE}
                rows += [len(old), store.connection.execute(_SUBSCRIPTIONS, subscriptions).rowcount]
        # As a script: any other statement without columns is stepped once by Python, which frees one page.
        store.connection.executescript(f"PRAGMA incremental_vacuum({AT_ONCE})")
    return Pruned(forgotten, max(rows) >= min(limit, AT_ONCE))


def _ended(store: Store, before: int, now: int, limit: int) -> Sequence[tuple[int, int]]:
    """Results of runs that ended before, and whose they are."""
    rows = store.fetch("SELECT rowid, delivery, ended_at FROM result ORDER BY rowid LIMIT ?", (limit,))
    # They stand in the order in which they ended. What seems to end later than now was written by a clock that was
    # wrong: it would keep all that stands behind it, and so it ends now.
    wrong = [(now, rowid) for rowid, _, ended_at in rows if ended_at > now]
    if wrong:
        store.connection.executemany("UPDATE result SET ended_at = ? WHERE rowid = ?", wrong)
    old = []
    for rowid, delivery, ended_at in rows:
        if min(ended_at, now) >= before:
            break
        old.append((rowid, delivery))
    return old


def _forget(store: Store, old: Sequence[tuple[int, int]]) -> int:
    """Forget results; and the deliveries that have no other run, with their attempts. How many those are."""
    store.connection.executemany("DELETE FROM result WHERE rowid = ?", [(rowid,) for rowid, _ in old])
    gone = [
        (delivery,) for delivery in {delivery for _, delivery in old} if not store.fetch(_OTHER_RUNS, {"seq": delivery})
    ]
    store.connection.executemany("DELETE FROM attempt WHERE delivery = ?", gone)
    store.connection.executemany("DELETE FROM delivery WHERE seq = ?", gone)
    return len(gone)
