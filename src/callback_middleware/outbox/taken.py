"""What it means that a key is another owner's: the same, and in the same words, in every engine."""

from __future__ import annotations

from callback_middleware.errors import SubscriptionExists
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.values import excerpt


def taken(key: SubscriptionKey) -> SubscriptionExists:
    """The error for whoever subscribes a key that is in force for another owner, whom it does not name."""
    return SubscriptionExists(
        f"the key {excerpt(key.key)} of the callback {key.callback} is subscribed by another owner: "
        "end that subscription first, or choose a key that is this owner's alone"
    )
