"""Subscriptions in the file: made, replaced, found and ended, each within its batch's transaction.

One that ended or expired keeps its row, so that a later one of the same key has a higher generation: what a receiver
says of an old notification must not end a new subscription.
"""

from __future__ import annotations

from typing import Final

from callback_middleware.outbox.records import SUBSCRIPTION_COLUMNS
from callback_middleware.outbox.sqlite.rows import subscription_of, subscription_row
from callback_middleware.outbox.sqlite.statements import Statements
from callback_middleware.outbox.taken import taken
from callback_middleware.subscription import Subscription, SubscriptionKey

IN_FORCE: Final = "ended_at IS NULL AND (expires_at IS NULL OR expires_at > ?)"
_COLUMNS: Final = ", ".join(SUBSCRIPTION_COLUMNS)
_MARKS: Final = ", ".join("?" * len(SUBSCRIPTION_COLUMNS))


def subscribe(store: Statements, subscription: Subscription, now: int) -> None:
    """Make a subscription, or replace the same owner's.

    Raises:
        SubscriptionExists: The key is another owner's, and in force.
    """
    callback, key, owner = subscription.key
    rows = store.fetch(
        f"SELECT owner, generation, {IN_FORCE} FROM subscription WHERE callback = ? AND key = ?",  # noqa: S608 - ours
        (now, callback, key),
    )
    generation = 0
    if rows:
        ((holder, generation, in_force),) = rows
        if in_force and holder != owner:
            raise taken(subscription.key)
    store.run(
        f"INSERT OR REPLACE INTO subscription ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608 - names of ours
        subscription_row(subscription, store.retry_id(subscription.retry), generation + 1),
    )


def subscribed(store: Statements, key: SubscriptionKey, now: int) -> Subscription | None:
    """The subscription in force of this owner's key, if there is one."""
    rows = store.fetch(
        f"SELECT {_COLUMNS} FROM subscription "  # noqa: S608 - names of ours
        f"WHERE callback = ? AND key = ? AND owner IS ? AND {IN_FORCE}",
        (*key, now),
    )
    return subscription_of(rows[0], store.policy(rows[0][11])) if rows else None


def end(store: Statements, key: SubscriptionKey, now: int, *, generation: int | None = None) -> None:
    """End a subscription, if it is there; where a generation is given, only if it is still that one."""
    store.run(
        "UPDATE subscription SET ended_at = ? WHERE callback = ? AND key = ? AND owner IS ? AND ended_at IS NULL "
        "AND generation = coalesce(?, generation)",
        (now, *key, generation),
    )
