"""Rounds in which processes of a fleet lose their database, or what it says to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import anyio
import anyio.to_thread

from crashing.clients import CLIENTS
from crashing.journal import Entry
from crashing.rounds import JITTER, MANY
from crashing.services import Service
from crashing.stores import InDatabase
from crashing.world import Account, World, world
from fleet.proxy import Ends, Packet
from fleet.scenes import SLOWNESS, at_once, at_work, fleet, proxy_of
from postgres_server import PostgresServer


async def database_restarts(directory: Path, seed: int, *, server: PostgresServer, restarts: int) -> Account:
    """Have the database crash and recover under web processes and workers, which all find it again by themselves.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        server: The database's.
        restarts: How often.
    """
    store = InDatabase(server.create_database())
    async with world(directory, seed, store=store, places=2) as scene, fleet(scene) as crowd:
        scene.receiver.slowness = SLOWNESS
        for _ in range(restarts):
            await scene.clients.acknowledge(scene.chance.randint(50, 150))
            await anyio.sleep(scene.chance.uniform(0, JITTER))
            # What was claimed at the last moment is claimed again: a claim is not synced.
            await scene.strike(partial(anyio.to_thread.run_sync, server.restart), interrupts=True)
            await scene.clients.acknowledge(50)
            for worker in crowd.workers:
                await at_work(scene, worker)
        await scene.drain()
    return await scene.account()


async def answers_are_lost(
    directory: Path, seed: int, *, url: str, statement: str, times: int, ends: Ends | None = None
) -> Account:
    """Lose the database's answers to some statements of a web process that sends what it puts; they were done.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        url: Of the database.
        statement: Which ones, by a piece of their text.
        times: How often.
        ends: What ends the connection each time, as for :meth:`~fleet.proxy.Proxy.lose_answer`.
    """
    async with (
        proxy_of(url) as proxy,
        world(directory, seed, store=InDatabase(url)) as scene,
        scene.web(outbox=proxy.through(url)) as web,
    ):
        for number in range(times):
            await scene.clients.acknowledge(scene.chance.randint(20, 60))
            await scene.strike(at_once(partial(proxy.lose_answer, statement, ends=ends)))
            await proxy.has_lost(number + 1)
        await scene.clients.acknowledge(50)
        await scene.drain()
        await web.terminate()
        # Some who came meanwhile may have been refused; nobody's put was given up.
        assert "LOST" not in web.output, web.output
    return await scene.account()


async def web_is_killed_in_its_put(
    directory: Path, seed: int, *, url: str, statement: str, committed: bool, kills: int
) -> Account:
    """Kill web processes that have asked the database to store a crowd's batches, and were not told that it has.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        url: Of the database.
        statement: The one that stores, by a piece of its text.
        committed: Whether the database has done it by then; else the statement is on its way.
        kills: How many processes are killed.
    """
    async with proxy_of(url) as proxy, world(directory, seed, store=InDatabase(url)) as scene:
        for _ in range(kills):
            async with scene.web(outbox=proxy.through(url), dispatch=False) as web:
                await scene.clients.acknowledge(scene.chance.randint(20, 60))
                await scene.clients.crowd()
                if committed:
                    proxy.lose_answer(statement, ends=partial(_killing, scene, web))
                    await web.ended()
                else:
                    with proxy.watched(partial(_kills_at, statement, scene, web)):
                        await web.ended()
        async with scene.web() as web:
            await scene.clients.acknowledge(50)
            await scene.drain()
            await web.terminate()
    return await scene.account()


async def worker_is_cut_off(
    directory: Path, seed: int, *, url: str, lasts: timedelta = timedelta(), forget: bool = False
) -> Account:
    """Cut a worker off from the database, in the middle of attempts, without its being told; and heal it.

    Another takes over what it had, and it takes its share again afterwards.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        url: Of the database.
        lasts: How long it is cut off at least; it is until its leases have ended.
        forget: Whether the connections that it has are lost for good.
    """
    async with (
        proxy_of(url) as proxy,
        world(directory, seed, store=InDatabase(url)) as scene,
        scene.web(dispatch=False) as web,
    ):
        scene.receiver.hold()
        async with scene.worker(outbox=proxy.through(url)) as cut_off:
            await scene.receiver.keeps(MANY)
            await scene.strike(at_once(proxy.black_hole))
            held = frozenset(scene.receiver.waiting)
            scene.receiver.release()
            async with scene.worker() as other:
                with scene.clients.resting():
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(anyio.sleep, lasts.total_seconds())
                        await scene.receiver.hears_again(held)
                        await scene.noted(partial(_settled, held, other), "another has settled what it had in hand")
                proxy.heal(forget=forget)
                await at_work(scene, cut_off)
                await scene.drain()
                await other.terminate()
            await cut_off.terminate()
        await web.terminate()
    return await scene.account()


async def web_is_cut_off(
    directory: Path, seed: int, *, url: str, lasts: timedelta = timedelta(), forget: bool = False
) -> Account:
    """Cut a web process off from the database, without its being told, until it refuses; and heal it.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        url: Of the database.
        lasts: How long it is cut off at least; it is until every client was refused once, in the average.
        forget: Whether the connections that it has are lost for good.
    """
    async with (
        proxy_of(url) as proxy,
        world(directory, seed, store=InDatabase(url)) as scene,
        scene.web(dispatch=False, outbox=proxy.through(url)) as web,
        scene.worker() as worker,
    ):
        await scene.clients.acknowledge(50)
        await scene.strike(at_once(proxy.black_hole))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, lasts.total_seconds())
            await scene.clients.be_refused(CLIENTS)
        proxy.heal(forget=forget)
        await scene.clients.acknowledge(50)
        await scene.drain()
        await web.terminate()
        await worker.terminate()
    return await scene.account()


async def _killing(scene: World, web: Service, _: int) -> None:
    scene.kill_now(web)


def _kills_at(statement: str, scene: World, web: Service, packet: Packet) -> None:
    if statement in (packet.statement or "") and web.alive:
        scene.kill_now(web)


def _settled(held: Collection[UUID], worker: Service, entries: Sequence[Entry]) -> bool:
    """Whether this worker had the results of all of these."""
    return {str(delivery) for delivery in held} <= {
        one.subject for one in entries if (one.process, one.what) == (worker.process, "result")
    }
