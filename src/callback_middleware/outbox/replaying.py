"""Replaying many: page after page of what is selected, so that nothing else waits for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID

from callback_middleware.ports import DeliveryLog
from callback_middleware.selection import Selection
from callback_middleware.states import State


async def replay_pages(
    log: DeliveryLog, selection: Selection, begin: Callable[[Sequence[UUID]], Awaitable[int]] | None, *, at_once: int
) -> int:
    """Begin new runs of what is selected and has ended. Returns how many.

    Args:
        log: What is searched.
        selection: What is still to be delivered is left out.
        begin: Begins those of these, and says how many it were; None to count alone.
        at_once: How many it is given.
    """
    ended = [state for state in selection.states or State if state.terminal]
    if not ended:
        return 0
    chosen = replace(selection, states=ended)
    after, total = None, 0
    while True:
        page = await log.search(chosen, limit=at_once, after=after)
        ids = [delivery.id for delivery in page.deliveries]
        total += len(ids) if begin is None or not ids else await begin(ids)
        if page.more is None:
            return total
        after = page.more
