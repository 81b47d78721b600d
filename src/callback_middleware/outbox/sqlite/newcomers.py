"""Receivers that have never accepted anything: which they are, what is out of them, and how they cease to be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from callback_middleware.backlog import is_newcomer
from callback_middleware.outbox.sqlite.store import Store


def newcomers(store: Store, origins: Collection[int]) -> Mapping[int, bool]:
    """The newcomers among these origins, which have something in the queue; and whether a delivery of each is out.

    Whoever settles, cancels or extends a claim, or lets it lapse, has to write nothing down here: the queue says what
    became of what was claimed last.
    """
    if not origins or not is_newcomer(store.limits, accepted=False):
        return {}
    rows = store.fetch(
        "SELECT origin_key, EXISTS (SELECT 1 FROM queue WHERE seq = asked AND leased = 1 AND ready = 0) "  # noqa: S608
        f"FROM origin WHERE accepted_at = 0 AND origin_key IN ({', '.join('?' * len(origins))})",
        list(origins),
    )
    return {origin: bool(out) for origin, out in rows}


def ask(store: Store, claimed: Mapping[int, int]) -> None:
    """Write down what is claimed of newcomers: a delivery's ``seq`` for each origin."""
    if claimed:
        store.connection.executemany(
            "UPDATE origin SET asked = ? WHERE origin_key = ?", [(seq, origin) for origin, seq in claimed.items()]
        )


def accept(store: Store, origins: Iterable[int], now: int) -> None:
    """These have accepted something. Before that leaves the queue: whose count is not 0 is in no index."""
    keys = set(origins)
    if keys:
        store.run(
            f"UPDATE origin SET accepted_at = ?, asked = NULL WHERE origin_key IN ({', '.join('?' * len(keys))})",  # noqa: S608 - marks
            (now, *keys),
        )
