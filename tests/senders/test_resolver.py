"""Names to checked addresses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_address

import anyio
import anyio.to_thread
import pytest

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import EgressRefused
from callback_middleware.senders import resolver as module
from callback_middleware.senders.progress import AttemptFailed
from callback_middleware.senders.resolver import Resolver, in_turn, system_lookup

PUBLIC = ip_address("93.184.215.14")
POLICY = EgressPolicy(allowed_hosts=("intranet",), allowed_networks=("10.0.0.0/8",))


async def resolved(resolver: Resolver, host: str) -> Sequence[Address]:
    return await resolver.checked(HttpUrl.of(f"https://{host}/").authority, POLICY)


async def test_a_strangers_name_is_absolute_and_the_operators_is_as_written() -> None:
    asked: list[str] = []

    def lookup(name: str) -> Sequence[Address]:
        asked.append(name)
        return [PUBLIC]

    resolver = Resolver(lookup)
    await resolved(resolver, "receiver.example")
    await resolved(resolver, "intranet")
    assert asked == ["receiver.example.", "intranet"]


async def test_those_who_ask_together_share_one_lookup_and_the_next_asks_afresh() -> None:
    asked: list[str] = []
    go = threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        asked.append(name)
        go.wait()
        return [PUBLIC]

    resolver = Resolver(lookup)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(resolved, resolver, "receiver.example")
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert len(asked) == 1
    await resolved(resolver, "receiver.example")
    assert len(asked) == 2


async def test_an_abandoned_lookup_is_taken_up_by_whoever_asks_next() -> None:
    """However often attempts give up, one hanging name holds one thread."""
    asked: list[str] = []
    go = threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        asked.append(name)
        go.wait()
        return [PUBLIC]

    resolver = Resolver(lookup)
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resolved, resolver, "slow.example")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resolved, resolver, "slow.example")
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert len(asked) == 1
    assert resolver._threads.value == module.THREADS


async def test_hanging_names_are_bounded_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "THREADS", 2)
    started, go = [0], threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        started[0] += 1
        go.wait()
        return [PUBLIC]

    resolver = Resolver(lookup)
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(resolved, resolver, f"slow{number}.example")
        await anyio.wait_all_tasks_blocked()
        assert started == [2]
        go.set()
    assert started == [10]


async def test_a_name_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    go = threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        go.wait()
        return [PUBLIC]

    try:
        with pytest.raises(AttemptFailed, match=r"name not resolved within 0\.05 s"):
            await resolved(Resolver(lookup), "slow.example")
    finally:
        go.set()


@pytest.mark.parametrize("found", [[], None, "boom"])
async def test_whatever_a_lookup_does_is_told_to_whoever_waits(found: object) -> None:
    def lookup(name: str) -> Sequence[Address]:
        if found is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if found == "boom":
            raise ValueError(found)
        return []

    with pytest.raises(AttemptFailed, match="name not resolved"):
        await resolved(Resolver(lookup), "receiver.example")


async def test_one_bad_address_refuses_all() -> None:
    resolver = Resolver(lambda _: [PUBLIC, ip_address("::ffff:7f00:1")])
    with pytest.raises(EgressRefused, match="IPv4-mapped"):
        await resolved(resolver, "receiver.example")


async def test_an_address_with_a_scope_is_refused() -> None:
    resolver = Resolver(lambda _: [ip_address("2606:4700::1%3")])
    with pytest.raises(EgressRefused, match="zone identifier"):
        await resolved(resolver, "receiver.example")


def test_a_scope_is_not_lost_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 3))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert [str(address) for address in system_lookup("a.")] == ["fe80::1%3"]


def test_the_system_knows_localhost() -> None:
    assert ip_address("127.0.0.1") in system_lookup("localhost")


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (["1.0.0.1", "1.0.0.2"], [0, 1]),
        (["::1", "::2", "1.0.0.1", "1.0.0.2"], [0, 2, 1, 3]),
        (["1.0.0.1", "::1", "::2", "::3"], [0, 1, 2, 3]),
        (["::1", "::2", "::3", "1.0.0.1"], [0, 3, 1, 2]),
        ([], []),
    ],
)
def test_families_take_turns(given: Sequence[str], order: Sequence[int]) -> None:
    addresses = [ip_address(text) for text in given]
    assert list(in_turn(addresses)) == [addresses[index] for index in order]


async def test_an_address_in_the_url_is_checked_here_too() -> None:
    """Whoever calls may have checked the text under another policy, or not at all."""
    authority = HttpUrl.of("https://10.0.0.1/").authority
    with pytest.raises(EgressRefused, match="private use"):
        await Resolver().checked(authority, POLICY)


async def test_those_who_waited_for_a_thread_share_a_lookup_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "THREADS", 1)
    asked: list[str] = []
    go = threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        asked.append(name)
        if name == "slow.example.":
            go.wait()
        return [PUBLIC]

    resolver = Resolver(lookup)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resolved, resolver, "slow.example")
        await anyio.wait_all_tasks_blocked()
        for _ in range(5):
            tasks.start_soon(resolved, resolver, "quick.example")
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert asked[0] == "slow.example."
    assert 2 <= len(asked) <= 6
    assert resolver._threads.value == 1


async def test_a_process_that_can_start_no_thread_says_so_and_keeps_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(lambda _: [PUBLIC])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(AttemptFailed, match="no more threads"):
            await resolved(resolver, "receiver.example")
    assert await resolved(resolver, "receiver.example") == (PUBLIC,)
    assert resolver._threads.value == module.THREADS


async def test_names_that_hang_leave_threads_to_those_that_resolved_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger with a wildcard name and a name server that is silent makes up as many as he likes."""
    monkeypatch.setattr(module, "THREADS", 4)
    monkeypatch.setattr(module, "FOR_STRANGERS", 2)
    hanging, go = [0], threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        if name.startswith("slow"):
            hanging[0] += 1
            go.wait()
        return [PUBLIC]

    resolver = Resolver(lookup)
    await resolved(resolver, "receiver.example")
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(resolved, resolver, f"slow{number}.example")
        await anyio.wait_all_tasks_blocked()
        assert hanging == [2]
        assert await resolved(resolver, "receiver.example") == (PUBLIC,)
        go.set()
    assert hanging == [10]
    assert (resolver._threads.value, resolver._for_strangers.value) == (4, 2)


async def test_a_name_that_resolves_no_more_is_a_strangers_again() -> None:
    found: list[Address] = [PUBLIC]
    resolver = Resolver(lambda _: found)
    await resolved(resolver, "receiver.example")
    assert list(resolver._known) == ["receiver.example."]
    found.clear()
    with pytest.raises(AttemptFailed):
        await resolved(resolver, "receiver.example")
    assert not resolver._known


async def test_only_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    resolver = Resolver(lambda _: [PUBLIC])
    for name in ("a", "b", "a", "c"):
        await resolved(resolver, f"{name}.example")
    assert list(resolver._known) == ["a.example.", "c.example."]


async def test_who_is_cancelled_while_he_waits_for_a_thread_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "THREADS", 1)
    go = threading.Event()

    def lookup(name: str) -> Sequence[Address]:
        go.wait()
        return [PUBLIC]

    resolver = Resolver(lookup)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resolved, resolver, "slow.example")
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(resolved, resolver, "another.example")
            await anyio.wait_all_tasks_blocked()
            assert resolver._for_strangers.value == module.FOR_STRANGERS - 2
            waiting.cancel_scope.cancel()
        assert resolver._for_strangers.value == module.FOR_STRANGERS - 1
        go.set()
    assert (resolver._threads.value, resolver._for_strangers.value) == (1, module.FOR_STRANGERS)
