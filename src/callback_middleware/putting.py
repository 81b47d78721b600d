"""An outbox that takes its time: it is started, and a batch put, and neither is waited for without end."""

from __future__ import annotations

import time
from typing import Final

import anyio

from callback_middleware.errors import OutboxUncertain
from callback_middleware.ports import Batch, Outbox, PutReport

PUT_TIMEOUT: Final = 5.0
"""Seconds that a start, a response or a job waits for the outbox."""

_UNCERTAIN_PAUSE: Final = 0.05
"""Seconds between two puts of one batch whose first outcome is unknown."""


async def start(outbox: Outbox, *, seconds: float = PUT_TIMEOUT) -> None:
    """Start an outbox. One that does not answer is not waited for any longer: it is out of reach.

    Raises:
        ConfigurationError: What will not mend by itself.
    """
    with anyio.move_on_after(seconds):
        await outbox.start()


async def put(outbox: Outbox, batch: Batch, *, seconds: float = PUT_TIMEOUT) -> PutReport:
    """Put a batch, whatever happens to its caller; an unknown outcome is put again: ids make that safe.

    Raises:
        OutboxUnavailable: Certainly not stored.
        OutboxUncertain: After so many seconds the outbox had not said whether it stored it.
        SubscriptionExists: A key of ``batch.subscribe`` is another owner's. Nothing is stored.
    """
    begun = time.monotonic()
    if outbox.patience is not None and outbox.patience <= seconds:
        # A cancel scope would cost as much as planning. Such an outbox ends by itself, and a caller who is cancelled
        # leaves it to that.
        try:
            return await outbox.put(batch)
        except OutboxUncertain:
            await anyio.sleep(_UNCERTAIN_PAUSE)
    with anyio.move_on_after(max(begun + seconds - time.monotonic(), 0), shield=True):
        while True:
            try:
                return await outbox.put(batch)
            except OutboxUncertain:
                await anyio.sleep(_UNCERTAIN_PAUSE)
    raise OutboxUncertain(f"the outbox did not say within {seconds} s whether it stored the batch")
