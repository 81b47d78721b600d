"""The worker of a service whose web processes send nothing: claims, attempts and settles what they put."""

from __future__ import annotations

import signal

import anyio

from callback_middleware import Dispatcher
from crashing.application import EGRESS, outbox, sender


async def work() -> None:
    dispatcher = Dispatcher(outbox, sender, egress=EGRESS)
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dispatcher.run)
            async for _ in signals:
                dispatcher.stop()
                break
    await sender.aclose()
    await outbox.aclose()


anyio.run(work)
