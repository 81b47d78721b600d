"""Rounds in which processes of a fleet die, stall or have wrong clocks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio
import asyncpg

from crashing.journal import Flights
from crashing.rounds import JITTER, MANY, goes_on
from crashing.services import Service
from crashing.stores import InDatabase, Store
from crashing.world import Account, world
from fleet.clocks import wrong_by
from fleet.proxy import Packet
from fleet.scenes import SLOWNESS, at_work, proxy_of

_AHEAD: Final = 100
"""Requests of which no receiver has heard, at most: what the other worker sends soon."""

_DELAY: Final = 0.2
"""Seconds after which what is put by a clock that is wrong is due."""

_PACKETS: Final = 30
"""As many as a worker exchanges with the database over one or two turns: settling, claiming, reading."""


async def fleet_is_killed(directory: Path, seed: int, *, store: Store, kills: int) -> Account:
    """Kill a web process and a worker, out of two each, while both are at work; and do it again.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        store: Where every process has its outbox.
        kills: How often; at most four: a fifth claim that kills its worker is a delivery's last.
    """
    async with (
        world(directory, seed, store=store, places=2) as scene,
        scene.web(dispatch=False) as web,
        scene.worker() as worker,
    ):
        scene.receiver.slowness = SLOWNESS
        for _ in range(kills):
            async with scene.web(1, dispatch=False) as other_web, scene.worker() as other_worker:
                await at_work(scene, other_worker)
                await scene.clients.acknowledge(scene.chance.randint(50, 150))
                await anyio.sleep(scene.chance.uniform(0, JITTER))
                for service in scene.chance.sample([other_web, other_worker], 2):
                    await scene.kill(service)
        async with scene.web(1, dispatch=False) as restarted:
            await scene.clients.acknowledge(50)
            await scene.drain()
            for service in (restarted, web, worker):
                await service.terminate()
    return await scene.account()


async def web_stalls_in_attempts(directory: Path, seed: int, *, store: Store) -> Account:
    """Stop a web process in the middle of attempts, and let it go on while another is in the middle of the same ones.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        store: Where every process has its outbox.
    """
    async with world(directory, seed, store=store, places=2) as scene, scene.web(0) as stalled:
        scene.receiver.hold()
        await scene.receiver.keeps(MANY)
        await scene.stop(stalled)
        held = frozenset(scene.receiver.waiting)
        # It is answered, and does not know it yet; whoever comes now is kept waiting.
        scene.receiver.release()
        scene.receiver.hold()
        async with scene.web(1) as other:
            with scene.clients.resting():
                await scene.receiver.hears_again(held)
                await goes_on(scene, stalled)
            scene.receiver.release()
            await scene.drain()
            await other.terminate()
        await stalled.terminate()
    return await scene.account()


async def clocks_are_wrong(directory: Path, seed: int, *, store: Store) -> Account:
    """Have web processes that are days off, and workers that are hours off, and kill one of these in its attempts.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        store: Where every process has its outbox.
    """

    def off(**by: int) -> dict[str, Any]:
        return {"environment": wrong_by(timedelta(**by), into=directory), "delay": _DELAY}

    async with (
        world(directory, seed, store=store, places=2) as scene,
        scene.web(0, dispatch=False, **off(days=3)) as early,
        scene.web(1, dispatch=False, **off(days=-3)) as late,
    ):
        scene.receiver.hold()
        async with scene.worker(**off(hours=-2)) as killed:
            await scene.receiver.keeps(MANY)
            await scene.kill(killed)
        scene.receiver.release()
        async with scene.worker(**off(hours=2)) as ahead, scene.worker(**off(hours=-2)) as behind:
            with scene.clients.resting():
                # What it had in hand is the others' when its leases end.
                for worker in (ahead, behind):
                    await at_work(scene, worker)
            await scene.clients.acknowledge(100)
            await scene.drain()
            for service in (ahead, behind, early, late):
                await service.terminate()
    return await scene.account()


async def worker_stalls_between_packets(directory: Path, seed: int, *, url: str, stalls: Sequence[float]) -> Account:
    """Stop a worker between any two of the packets that go to and fro between it and the database, and let it go on.

    There is always something due, and many attempts are in flight. The packets may be any: some of a claim, of what is
    read then, of a settlement, of news.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        url: Of the database.
        stalls: How long it is stopped each time, in seconds.
    """
    async with (
        proxy_of(url) as proxy,
        world(directory, seed, store=InDatabase(url)) as scene,
        scene.web(dispatch=False) as web,
        scene.worker(outbox=proxy.through(url)) as stalled,
        scene.worker() as other,
    ):
        clients, receiver = scene.clients, scene.receiver
        clients.may_ask = lambda: len(clients.acknowledged) - len(receiver.requests) < _AHEAD
        # What may have killed a worker is claimed alone: so many are made again one after the other, when leases end.
        clients.receivers = clients.receivers[:2]
        flights = Flights(scene.journal, stalled.process)
        for seconds in stalls:
            # A receiver that answers is given more and more at once.
            await at_work(scene, stalled)
            await clients.acknowledge(_AHEAD)
            receiver.hold()
            await scene.noted(lambda _: flights.count() >= MANY, "many attempts of the worker are in flight")
            stop = _Stop(stalled, scene.chance.randint(1, _PACKETS))
            with proxy.watched(stop.watch):
                if scene.chance.random() < 0.5:
                    # They end before it is stopped, and it may have begun to settle them.
                    receiver.release()
                await stop.made.wait()
            receiver.release()
            await anyio.sleep(seconds)
            stalled.resume()
            await at_work(scene, stalled)
        await scene.drain()
        for service in (stalled, other, web):
            await service.terminate()
    return await scene.account(await _ended(url))


class _Stop:
    """Stops a worker at a packet, counted from 1."""

    def __init__(self, service: Service, number: int) -> None:
        self.made = anyio.Event()
        self._service = service
        self._left = number

    def watch(self, _: Packet) -> None:
        self._left -= 1
        if self._left == 0:
            self._service.stop_now()
            self.made.set()


async def _ended(url: str) -> Mapping[UUID, float]:
    """When the database took each delivery's result, in seconds of the machine's monotonic clock."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT delivery, extract(epoch FROM ended_at - clock_timestamp())::float AS ago "
        "FROM callback_middleware.result"
    )
    now = time.monotonic()
    await connection.close()
    return {row["delivery"]: now + row["ago"] for row in rows}
