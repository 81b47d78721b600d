"""The rounds: who is killed, when, and how the last process finds what is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import anyio

from crashing.journal import Entry, in_flight
from crashing.services import Service
from crashing.settings import Moment
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

_JITTER: Final = 0.05
"""Seconds over which a random moment is spread: longer than a request, a commit or an attempt takes."""

_MANY: Final = 8
"""Attempts that are in flight when a worker is killed or stopped: at least those of one origin."""


async def web_is_killed(
    directory: Path,
    seed: int,
    *,
    kills: int,
    requests: int,
    durable: bool = True,
    answers: bool = True,
    **settings: Any,
) -> Account:
    """Kill web processes at random moments, all of which send what they put.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        kills: How many processes are killed; at most four: a fifth claim that kills its worker is a delivery's last.
        requests: So many are acknowledged, in the average, by each process.
        durable: Whether the outbox is a file.
        answers: Whether receivers answer while a process lives that will be killed; else all its attempts hang.
        settings: Of those that are killed.
    """
    async with world(directory, seed, durable=durable) as scene:
        for _ in range(kills):
            if not answers:
                scene.receiver.hold()
            async with scene.web(**settings) as web:
                await scene.clients.acknowledge(scene.chance.randint(requests // 2, requests * 3 // 2))
                # The last acknowledgement is a moment unlike others.
                await anyio.sleep(scene.chance.uniform(0, _JITTER))
                await scene.kill(web)
            scene.receiver.release()
        return await _end(scene, requests)


async def web_kills_itself(directory: Path, seed: int, moments: Iterable[Moment], **settings: Any) -> Account:
    """Have one web process after the other die, each at one of these moments.

    Where the moment lies on the request path, nothing is sent before the last process sends everything: so no attempt
    is in flight, and no lease need be waited for.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        moments: In this order; of those of the delivery path at most four, as with :func:`web_is_killed`.
        settings: Of those that die.
    """
    async with world(directory, seed) as scene:
        for moment in moments:
            sends = moment in DELIVERY_PATH
            passage = scene.chance.randint(3, 12) if sends else scene.chance.randint(50, 150)
            async with scene.web(moment=moment, passage=passage, dispatch=sends, **settings) as web:
                await scene.killed_itself(web)
        return await _end(scene, 100)


async def worker_is_killed(directory: Path, seed: int, *, kills: int) -> Account:
    """Kill workers in the middle of attempts: their receivers have heard, and not answered."""
    async with world(directory, seed) as scene, scene.web(dispatch=False) as web:
        for _ in range(kills):
            scene.receiver.hold()
            async with scene.worker() as worker:
                await scene.receiver.keeps(_MANY)
                await scene.kill(worker)
            scene.receiver.release()
        async with scene.worker() as worker:
            await scene.clients.acknowledge(100)
            await scene.drain()
            await worker.terminate()
        await web.terminate()
    return await scene.account()


async def worker_stalls(directory: Path, seed: int, *, answered: bool) -> Account:
    """Stop a worker past the leases of its attempts, have another one make them, and let it go on.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        answered: Whether it stops with the receivers' answers in hand, about to settle, and goes on when the other has
            settled everything; else in the middle of attempts, and it goes on when the other has only begun.
    """
    async with world(directory, seed) as scene, scene.web(dispatch=False) as web:
        about_to_settle = {
            "moment": Moment.SETTLING,
            "passage": scene.chance.randint(3, 12),
            "crowd": 0,
            "stalls": True,
        }
        if not answered:
            scene.receiver.hold()
        async with scene.worker(**(about_to_settle if answered else {})) as stalled:
            if answered:
                await scene.stopped_itself(stalled)
            else:
                await scene.receiver.keeps(_MANY)
                await scene.stop(stalled)
                scene.receiver.release()
            await _takes_over(scene, stalled, settled=answered)
            await stalled.terminate()
        await web.terminate()
    return await scene.account()


async def _takes_over(scene: World, stalled: Service, *, settled: bool) -> None:
    """Have another worker take over from one that has stopped, then let that go on, and both send what is left."""
    held = _in_flight(scene, stalled)
    assert held, "the worker that was stopped had no attempt in flight"
    await scene.clients.end()
    async with scene.worker() as other:

        def taken_over(entries: Sequence[Entry]) -> bool:
            own = [entry for entry in entries if entry.process == other.process]
            if settled:
                return held <= {entry.subject for entry in own if entry.what == "result"}
            return not held.isdisjoint(entry.subject for entry in own if entry.what == "began")

        await scene.noted(taken_over, "another worker has taken over")
        stalled.resume()
        await scene.noted(lambda _: held.isdisjoint(_in_flight(scene, stalled)), "the one that stalled has settled")
        await scene.drain()
        await other.terminate()


def _in_flight(scene: World, service: Service) -> frozenset[str]:
    return frozenset(map(str, in_flight(scene.journal.read(), service.process)))


async def _end(scene: World, requests: int) -> Account:
    """Let a last process work, and send everything that is left."""
    async with scene.web() as web:
        await scene.clients.acknowledge(requests)
        await scene.drain()
        await web.terminate()
    return await scene.account()
