"""One outbox, the clients and the receiver that outlive every process on it, and the account of what came of it."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import anyio

from callback_middleware import State
from callback_middleware.selection import Selection
from crashing import services
from crashing.clients import Clients
from crashing.journal import Entry, Journal, in_flight, outlived, results, stale, waits
from crashing.mortality import LEASE
from crashing.news import seen
from crashing.receiver import Receiver, receiving
from crashing.services import Service
from crashing.settings import CROWD, Settings
from crashing.stores import InFile, Store
from crashing.verdict import Evidence, Faults, Stored, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one seeded round came to.

    Attributes:
        shapes: How many requests of each shape were acknowledged.
        answers: How many whole responses had each status.
        crowds: The requests in flight whenever something befell a process.
        longest_wait: Seconds for which a delivery that was acknowledged was left alone.
        slowest: Seconds that a whole response took.
    """

    seed: int
    evidence: Evidence
    faults: Faults
    shapes: Counter[str]
    answers: Counter[int]
    crowds: Sequence[int]
    longest_wait: float
    slowest: float

    def __str__(self) -> str:
        evidence = self.evidence
        shapes = ", ".join(f"{count} {shape}" for shape, count in sorted(self.shapes.items()))
        return (
            f"seed {self.seed}: {len(evidence.acknowledged)} acknowledged ({shapes}), {self.answers[503]} refused, "
            f"{len(evidence.stored)} stored, "
            f"{len(evidence.received)} received; struck with {', '.join(map(str, self.crowds))} in flight; "
            f"{len(evidence.interrupted)} attempts interrupted, {len(evidence.outlived)} outlived their lease, "
            f"{evidence.duplicates} duplicates; "
            f"none was left alone for more than {self.longest_wait:.2f} s, "
            f"no response took more than {self.slowest:.2f} s; {self.faults}"
        )

    def assert_kept(self, *, kills: int) -> None:
        """Fail unless every promise was kept, and the round was one: so many kills, each with a crowd in flight."""
        assert not self.faults, self
        assert len(self.crowds) == kills
        assert all(crowd >= CROWD for crowd in self.crowds)
        # Where a disk stalls for longer than a put may take, a refusal is right; an error never is.
        assert set(self.answers) <= {200, 503}


@dataclass(slots=True, kw_only=True)
class World:
    """What stays while processes come and go.

    Attributes:
        seed: Of everything that is left to chance here.
        store: Where every process has its outbox, unless it is set up otherwise.
        loop: Which event loop workers run on.
        listening: The places where requests come in, whatever process takes them there.
    """

    seed: int
    store: Store
    loop: str
    chance: Random
    clients: Clients
    receiver: Receiver
    journal: Journal
    listening: Sequence[socket.socket]
    _crowds: list[int] = field(default_factory=list)
    _interrupted: list[UUID] = field(default_factory=list)

    @asynccontextmanager
    async def web(self, place: int = 0, **settings: Any) -> AsyncIterator[Service]:
        """A web process at one of the places, set up so."""
        async with services.web(self._set(settings), self.listening[place]) as service:
            yield service

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[Service]:
        """A worker process, set up so."""
        async with services.worker(self._set(settings), self.loop) as service:
            yield service

    async def strike(self, fault: Callable[[], Awaitable[object]], *, interrupts: bool = False) -> None:
        """Do something bad to what processes depend on, at the next moment with enough requests in flight.

        Args:
            fault: What happens; it has when this returns.
            interrupts: Whether it may take claims back, so that attempts that are in flight meanwhile are made again.
        """
        self._crowds.append(await self.clients.crowd())
        before = self.journal.read()
        await fault()
        if interrupts:
            begun = [UUID(entry.subject) for entry in self.journal.read()[len(before) :] if entry.what == "began"]
            self._interrupted += [*in_flight(before), *begun]

    async def kill(self, service: Service) -> None:
        """SIGKILL it, at the next moment with enough requests in flight."""
        self._crowds.append(await self.clients.crowd())
        service.kill()
        await service.ended()
        self._interrupted += in_flight(self.journal.read(), service.process)

    def kill_now(self, service: Service) -> None:
        """SIGKILL it at this moment. It has no attempts in flight: it sends nothing."""
        self._crowds.append(self.clients.in_flight)
        service.kill()

    async def killed_itself(self, service: Service) -> None:
        """Return when it has."""
        await service.ended()
        entries = self.journal.read()
        struck = [entry for entry in entries if entry.what == "struck" and entry.process == service.process]
        assert struck, "the process ended before the moment at which it was to kill itself"
        self._crowds.append(struck[0].number)
        self._interrupted += in_flight(entries, service.process)

    async def stop(self, service: Service) -> None:
        """SIGSTOP it, at the next moment with enough requests in flight, at which it keeps nobody from the outbox."""
        self._crowds.append(await self.clients.crowd())
        service.stop()
        await service.stopped()
        while not self.store.is_free():
            service.resume()
            service.stop()
            await service.stopped()

    async def stopped_itself(self, service: Service) -> None:
        """Return when it has."""
        await service.stopped()
        self._crowds.append(await self.clients.crowd())

    async def noted(self, holds: Callable[[Sequence[Entry]], bool], what: str) -> None:
        """Return when this holds of the journal. Fails if it never does."""

        async def look() -> bool:
            return holds(self.journal.read())

        await seen(look, what)

    async def drain(self) -> None:
        """End the clients, and return when the outbox has nothing left to do. Fails if it never comes to that."""
        await self.clients.end()
        log = await self.store.opened()
        if log is None:
            return

        async def look() -> bool:
            counts = await log.counts()
            return not counts[State.PENDING] and not counts[State.SENDING]

        await seen(look, "everything in the outbox is delivered")
        await log.aclose()

    async def account(self, ended: Mapping[UUID, float] | None = None) -> Account:
        """Judge. Every process must have ended.

        Args:
            ended: When the outbox took the results of deliveries, as for :func:`crashing.journal.waits`.
        """
        await self.receiver.silence()
        entries = self.journal.read()
        evidence = Evidence(
            acknowledged=frozenset(self.clients.acknowledged),
            received=tuple(self.receiver.received),
            stored=await _stored(self.store),
            results=results(entries),
            interrupted=tuple(self._interrupted),
            stale=stale(entries),
            outlived=outlived(entries, LEASE),
        )
        owned_at = self.clients.acknowledged_at
        due = {one.delivery.id: owned_at[one.request] for one in evidence.stored if one.request in owned_at}
        account = Account(
            seed=self.seed,
            evidence=evidence,
            faults=judge(evidence),
            shapes=Counter(self.clients.acknowledged.values()),
            answers=self.clients.answers,
            crowds=tuple(self._crowds),
            longest_wait=max(waits(entries, due, ended).values(), default=0.0),
            slowest=self.clients.slowest,
        )
        print(account)  # noqa: T201 - pytest shows it if the test fails
        return account

    def _set(self, settings: dict[str, Any]) -> Settings:
        return Settings(**{"journal": str(self.journal.path), "outbox": self.store.address, **settings})


@asynccontextmanager
async def world(
    directory: Path, seed: int, *, store: Store | None = None, loop: str = "asyncio", places: int = 1
) -> AsyncIterator[World]:
    """A receiver, and clients that ask from the first moment until they are ended.

    Args:
        directory: Empty; for the files.
        seed: Of everything that is left to chance here.
        store: Where every process has its outbox; default an SQLite file there.
        loop: Which event loop workers run on, asyncio or trio.
        places: Where web processes listen side by side. Clients have theirs, and wait there.
    """
    print(f"seed {seed}")  # noqa: T201 - whoever sees it fail wants to see it again
    store = store or InFile(directory / "outbox.db")
    await store.prepare()
    journal = Journal(directory / "journal")
    chance = Random(seed)  # noqa: S311 - it is to be the same chance again
    with ExitStack() as stack:
        stack.enter_context(closing(journal))
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024)) for _ in range(places)]
        async with receiving() as receiver, anyio.create_task_group() as tasks:
            ports = [one.getsockname()[1] for one in listening]
            clients = Clients(ports, receiver.urls, chance, receiver.news)
            tasks.start_soon(clients.run)
            yield World(
                seed=seed,
                store=store,
                loop=loop,
                chance=chance,
                clients=clients,
                receiver=receiver,
                journal=journal,
                listening=listening,
            )
            tasks.cancel_scope.cancel()


async def _stored(store: Store) -> Sequence[Stored]:
    """Everything that the outbox has, as its log tells it."""
    log = await store.opened()
    stored: list[Stored] = []
    if log is None:
        return stored
    after = None
    while True:
        page = await log.search(Selection(), limit=500, after=after)
        for found in page.deliveries:
            delivery = await log.get(found.id)
            stored.append(
                Stored(json.loads(delivery.body or b"")["invoice"], delivery, await log.attempts(delivery.id))
            )
        after = page.more
        if after is None:
            break
    await log.aclose()
    return stored
