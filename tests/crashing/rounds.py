"""The rounds: who is killed, when, and how the last process finds what is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import anyio

from crashing.journal import Entry, in_flight
from crashing.services import Service
from crashing.settings import Moment
from crashing.stores import Store
from crashing.world import Account, World, world

REQUEST_PATH: Final = (
    Moment.BEFORE_PUT,
    Moment.INSERTING,
    Moment.COMMITTING,
    Moment.COMMITTED,
    Moment.TOLD,
    Moment.ANSWERED,
)
DELIVERY_PATH: Final = (Moment.CLAIMED, Moment.HEARD, Moment.SETTLING, Moment.SETTLED)

JITTER: Final = 0.05
"""Seconds over which a random moment is spread: longer than a request, a commit or an attempt takes."""

MANY: Final = 8
"""Attempts that are in flight when a worker is killed or stopped: at least those of one origin."""


async def web_is_killed(
    directory: Path,
    seed: int,
    *,
    kills: int,
    requests: int,
    store: Store | None = None,
    answers: bool = True,
    **settings: Any,
) -> Account:
    """Kill web processes at random moments, all of which send what they put.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        kills: How many processes are killed; at most four: a fifth claim that kills its worker is a delivery's last.
        requests: So many are acknowledged, in the average, by each process.
        store: Where every process has its outbox; default an SQLite file there.
        answers: Whether receivers answer while a process lives that will be killed; else all its attempts hang.
        settings: Of those that are killed.
    """
    async with world(directory, seed, store=store) as scene:
        for _ in range(kills):
            if not answers:
                scene.receiver.hold()
            async with scene.web(**settings) as web:
                await scene.clients.acknowledge(scene.chance.randint(requests // 2, requests * 3 // 2))
                # The last acknowledgement is a moment unlike others.
                await anyio.sleep(scene.chance.uniform(0, JITTER))
                await scene.kill(web)
            scene.receiver.release()
        return await _end(scene, requests)


async def web_kills_itself(
    directory: Path, seed: int, moments: Iterable[Moment], *, store: Store | None = None, **settings: Any
) -> Account:
    """Have one web process after the other die, each at one of these moments.

    Where the moment lies on the request path, nothing is sent before the last process sends everything: so no attempt
    is in flight, and no lease need be waited for.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        moments: In this order; of those of the delivery path at most four, as with :func:`web_is_killed`.
        store: Where every process has its outbox; default an SQLite file there.
        settings: Of those that die.
    """
    async with world(directory, seed, store=store) as scene:
        for moment in moments:
            sends = moment in DELIVERY_PATH
            passage = scene.chance.randint(3, 12) if sends else scene.chance.randint(30, 100)
            async with scene.web(moment=moment, passage=passage, dispatch=sends, **settings) as web:
                await scene.killed_itself(web)
        return await _end(scene, 100)


async def worker_is_killed(directory: Path, seed: int, *, kills: int, loop: str, store: Store | None = None) -> Account:
    """Kill workers in the middle of attempts: their receivers have heard, and not answered.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        kills: How many workers are killed; at most four, as with :func:`web_is_killed`.
        loop: Which event loop they run on, asyncio or trio.
        store: Where every process has its outbox; default an SQLite file there.
    """
    async with world(directory, seed, store=store, loop=loop) as scene, scene.web(dispatch=False) as web:
        for _ in range(kills):
            scene.receiver.hold()
            async with scene.worker() as worker:
                await scene.receiver.keeps(MANY)
                await scene.kill(worker)
            scene.receiver.release()
        async with scene.worker() as worker:
            await scene.clients.acknowledge(100)
            await scene.drain()
            await worker.terminate()
        await web.terminate()
    return await scene.account()


async def worker_stalls_in_attempts(directory: Path, seed: int, *, loop: str, store: Store | None = None) -> Account:
    """Stop a worker in the middle of attempts, and let it go on while another is in the middle of the same ones.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        loop: Which event loop workers run on, asyncio or trio.
        store: Where every process has its outbox; default an SQLite file there.
    """
    async with world(directory, seed, store=store, loop=loop) as scene, scene.web(dispatch=False) as web:
        scene.receiver.hold()
        async with scene.worker() as stalled:
            await scene.receiver.keeps(MANY)
            await scene.stop(stalled)
            await scene.clients.end()
            held = frozenset(scene.receiver.waiting)
            # It is answered, and does not know it yet; whoever comes now is kept waiting.
            scene.receiver.release()
            scene.receiver.hold()
            async with scene.worker() as other:
                await scene.receiver.hears_again(held)
                await goes_on(scene, stalled)
                scene.receiver.release()
                await scene.drain()
                await other.terminate()
            await stalled.terminate()
        await web.terminate()
    return await scene.account()


async def worker_stalls_before_settling(
    directory: Path, seed: int, *, loop: str, store: Store | None = None
) -> Account:
    """Have a worker stop with answers in hand, and go on when another has got and settled the same ones.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        loop: Which event loop workers run on, asyncio or trio.
        store: Where every process has its outbox; default an SQLite file there.
    """
    passage = {"moment": Moment.SETTLING, "passage": 5, "crowd": 0, "stalls": True}
    async with world(directory, seed, store=store, loop=loop) as scene, scene.web(dispatch=False) as web:
        async with scene.worker(**passage) as stalled:
            await scene.stopped_itself(stalled)
            await scene.clients.end()
            held = _held(scene, stalled)
            async with scene.worker() as other:

                def settled(entries: Sequence[Entry]) -> bool:
                    return held <= {
                        one.subject for one in entries if (one.process, one.what) == (other.process, "result")
                    }

                await scene.noted(settled, "another worker has settled what the one that stalls has in hand")
                await goes_on(scene, stalled)
                await scene.drain()
                await other.terminate()
            await stalled.terminate()
        await web.terminate()
    return await scene.account()


def _held(scene: World, stalled: Service) -> frozenset[str]:
    """What a worker that has stopped has in flight."""
    held = frozenset(map(str, in_flight(scene.journal.read(), stalled.process)))
    assert held, "the worker that was stopped had no attempt in flight"
    return held


async def goes_on(scene: World, stalled: Service) -> None:
    """Let a worker go on that has stopped. On return it has settled all that it had in flight, or tried to."""
    held, before = _held(scene, stalled), len(scene.journal.read())

    def settled(entries: Sequence[Entry]) -> bool:
        news = entries[before:]
        return held <= {one.subject for one in news if (one.process, one.what) == (stalled.process, "ended")}

    stalled.resume()
    await scene.noted(settled, "the worker that stalled has settled what it had in flight")


async def _end(scene: World, requests: int) -> Account:
    """Let a last process work, and send everything that is left."""
    async with scene.web() as web:
        await scene.clients.acknowledge(requests)
        await scene.drain()
        await web.terminate()
    return await scene.account()
