"""What ``search`` promises: what is selected, all of it and nothing else, newest first, page by page."""
# ruff: noqa: S101 - asserting is what a contract does

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from callback_middleware.delivery import Dead, Retry
from callback_middleware.selection import Page, Selection
from callback_middleware.states import State
from callback_middleware.testing.clock import VirtualClock
from callback_middleware.testing.contracts.setting import Engine, OutboxSetting

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)

EVERYTHING = Selection()

FOUND: dict[str, tuple[Selection, dict[str, Any]]] = {
    "a callback": (Selection(callback="paid"), {"callback": "paid"}),
    "a host": (Selection(host="a.example"), {"url": "https://a.example/x", "origin": "https://a.example:443"}),
    "a host with a port": (
        Selection(host="a.example"),
        {"url": "http://a.example:8080/x", "origin": "http://a.example:8080"},
    ),
    "an address": (Selection(host="192.0.2.7"), {"url": "http://192.0.2.7/x", "origin": "http://192.0.2.7:80"}),
    "an IPv6 address": (
        Selection(host="2001:db8::7"),
        {"url": "http://[2001:db8::7]:81/x", "origin": "http://[2001:db8::7]:81"},
    ),
    "text in the URL": (Selection(text="invoices/4711?"), {"url": "https://here.example/invoices/4711?a=b"}),
    "text in the operation": (Selection(text="POST /inv"), {"operation": "POST /invoices/"}),
    "text in a tag": (Selection(text="tenant-9"), {"tags": {"a": "b", "c": "the tenant-9 of many"}}),
    "text that is all of a tag": (Selection(text="9"), {"tags": {"tenant": "9"}}),
    "text in another case": (Selection(text="aCmE"), {"tags": {"tenant": "Acme"}}),
    "text with wildcards": (Selection(text="50%_[*]?"), {"tags": {"discount": "a 50%_[*]? off"}}),
    "text with quotes": (Selection(text="\"'\\"), {"tags": {"quoted": "said \"'\\ twice"}}),
    "text with line breaks": (Selection(text="a\nb\tc"), {"tags": {"lines": "xa\nb\tcx"}}),
    "text of other letters": (Selection(text="größe 🧾"), {"tags": {"size": "die größe 🧾 ist"}}),
    "text with spaces at its ends": (Selection(text=" x "), {"tags": {"spaced": "a x b"}}),
    "the empty text": (Selection(text=""), {"tags": {}}),
}

NOT_FOUND: dict[str, tuple[Selection, dict[str, Any]]] = {
    "a callback whose name is longer": (Selection(callback="paid"), {"callback": "paid late"}),
    "a callback in another case": (Selection(callback="paid"), {"callback": "Paid"}),
    "a host within a longer one": (
        Selection(host="a.example"),
        {"url": "https://aa.example/", "origin": "https://aa.example:443"},
    ),
    "a host that begins a longer one": (
        Selection(host="a.example"),
        {"url": "https://a.example.org/", "origin": "https://a.example.org:443"},
    ),
    "a host in the path": (
        Selection(host="a.example"),
        {"url": "https://b.example/a.example?a.example", "origin": "https://b.example:443"},
    ),
    "text in a tag's name": (Selection(text="tenant"), {"tags": {"tenant": "9"}}),
    "text in the body": (Selection(text="secret"), {"body": b"secret"}),
    "text in the callback's name": (Selection(text="paid"), {"callback": "paid"}),
    "text across two tags": (Selection(text="9 8"), {"tags": {"a": "9", "b": "8"}}),
    "text across operation and URL": (
        Selection(text="end start"),
        {"operation": "start the end", "url": "https://here.example/end"},
    ),
    "a wildcard for many": (Selection(text="a%b"), {"tags": {"a": "a b"}}),
    "a wildcard for one": (Selection(text="a_b"), {"tags": {"a": "a b"}}),
    "another case of other letters": (Selection(text="GRÖSSE"), {"tags": {"a": "größe grösse"}}),
    "letters that only look alike": (Selection(text="k"), {"tags": {"a": "\N{KELVIN SIGN}"}}),
}


class SearchContract(OutboxSetting):
    async def test_an_empty_outbox_has_an_empty_page(self, outbox: Engine) -> None:
        page = await outbox.search(EVERYTHING)

        assert (list(page.deliveries), page.more) == ([], None)

    async def test_everything_is_found_as_it_stands_and_the_newest_first(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        put = []
        for _ in range(3):
            put.append([self.delivery(clock), self.delivery(clock, due_in=HOUR)])
            await self.put(outbox, *reversed(put[-1]))
            await self.let_pass(outbox, clock, SECOND)
        await self.settle_all(outbox, clock)

        page = await outbox.search(EVERYTHING)

        newest_first = [one.id for pair in reversed(put) for one in reversed(pair)]
        assert list(page.deliveries) == [await outbox.get(one) for one in newest_first]
        assert page.more is None

    async def test_every_state_finds_its_own(self, outbox: Engine, clock: VirtualClock) -> None:
        of_state = {}
        # What is pending is put last: to come to another state something is claimed.
        for state in (*(state for state in State if state is not State.PENDING), State.PENDING):
            of_state[state] = (await self.in_state(outbox, clock, state)).id

        for state in State:
            assert await _found(outbox, Selection(states={state})) == [of_state[state]]
        both = await _found(outbox, Selection(states=(State.DEAD, State.SENDING)))
        assert set(both) == {of_state[State.DEAD], of_state[State.SENDING]}

    @pytest.mark.parametrize(("selection", "attributes"), FOUND.values(), ids=FOUND)
    async def test_it_finds(
        self, outbox: Engine, clock: VirtualClock, selection: Selection, attributes: dict[str, Any]
    ) -> None:
        delivery = self.delivery(clock, **attributes)
        await self.put(outbox, delivery)

        assert await _found(outbox, selection) == [delivery.id]

    @pytest.mark.parametrize(("selection", "attributes"), NOT_FOUND.values(), ids=NOT_FOUND)
    async def test_it_does_not_find(
        self, outbox: Engine, clock: VirtualClock, selection: Selection, attributes: dict[str, Any]
    ) -> None:
        await self.put(outbox, self.delivery(clock, **attributes))

        assert await _found(outbox, selection) == []

    async def test_text_is_found_in_the_reason_that_it_has_now(self, outbox: Engine, clock: VirtualClock) -> None:
        dead, retrying = self.delivery(clock), self.delivery(clock)
        await self.put_and_end(outbox, clock, dead, verdict=Dead("gave up: answered 503"))
        await self.put_and_end(outbox, clock, retrying, verdict=Retry(HOUR, "Answered 500"))
        answered = Selection(text="ANSWERED 50")

        before = await _found(outbox, answered)
        await outbox.replay(dead.id)

        assert before == [retrying.id, dead.id]
        assert await _found(outbox, answered) == [retrying.id]

    async def test_times_are_from_and_before_to_the_microsecond(self, outbox: Engine, clock: VirtualClock) -> None:
        now = clock.now()
        deliveries = [self.delivery(clock, created_at=now + number * MICROSECOND) for number in (-1, 0, 1)]
        await self.put(outbox, *deliveries)
        before, at, after = (one.id for one in deliveries)

        assert await _found(outbox, Selection(since=now)) == [after, at]
        assert await _found(outbox, Selection(until=now)) == [before]
        assert await _found(outbox, Selection(since=now, until=now + MICROSECOND)) == [at]
        assert await _found(outbox, Selection(since=now, until=now)) == []

    async def test_whatever_is_said_together_holds_together(self, outbox: Engine, clock: VirtualClock) -> None:
        """An engine may ask its database. What a selection means, the selection itself says."""
        await self._put_some_of_everything(outbox, clock)
        everything = list((await outbox.search(EVERYTHING, limit=1000)).deliveries)
        borders = (None, everything[5].created_at, everything[-5].created_at)

        for states, callback, host, since, until, text in product(
            ((), (State.DEAD, State.CANCELLED), (State.PENDING, State.SENDING), (State.DELIVERED, State.DEAD)),
            (None, "paid"),
            (None, "b.example"),
            borders,
            borders,
            (None, "told SO", "tenant-1"),
        ):
            selection = Selection(states=states, callback=callback, host=host, since=since, until=until, text=text)
            expected = [one.id for one in everything if selection.matches(one)]
            assert await _found(outbox, selection) == expected, selection

    async def test_they_come_page_by_page(self, outbox: Engine, clock: VirtualClock) -> None:
        wanted = [self.delivery(clock, callback="paid") for _ in range(7)]
        await self.put(outbox, *wanted, *(self.delivery(clock, callback="sent") for _ in range(7)))

        pages = await _pages(outbox, Selection(callback="paid"), limit=3)

        assert [len(page) for page in pages] == [3, 3, 1]
        assert [id_ for page in pages for id_ in page] == [one.id for one in reversed(wanted)]

    async def test_a_last_page_that_is_full_says_that_it_is_the_last(self, outbox: Engine, clock: VirtualClock) -> None:
        await self.put(outbox, *(self.delivery(clock) for _ in range(4)))

        first = await outbox.search(EVERYTHING, limit=2)
        second = await outbox.search(EVERYTHING, limit=2, after=first.more)

        assert (len(first.deliveries), len(second.deliveries)) == (2, 2)
        assert first.more is not None
        assert second.more is None
        assert (await outbox.search(EVERYTHING, limit=4)).more is None

    async def test_what_is_put_and_forgotten_meanwhile_moves_nothing_to_another_page(
        self, outbox: Engine, clock: VirtualClock
    ) -> None:
        old = [self.delivery(clock, due_in=due_in) for due_in in (HOUR, HOUR, timedelta(), timedelta())]
        await self.put_and_end(outbox, clock, *old)
        first = await outbox.search(EVERYTHING, limit=2)
        await self.let_pass(outbox, clock, SECOND)

        await self.put(outbox, *(self.delivery(clock) for _ in range(3)))
        assert await outbox.prune(clock.now()) > 0
        second = await outbox.search(EVERYTHING, limit=2, after=first.more)

        assert [one.id for one in first.deliveries] == [old[3].id, old[2].id]
        assert [one.id for one in second.deliveries] == [old[1].id, old[0].id]

    async def _put_some_of_everything(self, outbox: Engine, clock: VirtualClock) -> None:
        kinds = [
            {"callback": callback, "url": f"https://{host}/x", "origin": f"https://{host}:443", "tags": {"t": tag}}
            for callback, host, tag in product(("paid", "sent"), ("a.example", "b.example"), ("Tenant-1", "tenant-2"))
        ]
        for number, (state, kind) in enumerate(
            (state, kind)
            for state in (State.SENDING, State.DELIVERED, State.DEAD, State.CANCELLED, State.PENDING)
            for kind in kinds
        ):
            await self.in_state(outbox, clock, state, **kind)
            if number % 3 == 0:
                await self.let_pass(outbox, clock, MICROSECOND)


async def _found(outbox: Engine, selection: Selection) -> Sequence[UUID]:
    return _ids(await outbox.search(selection))


async def _pages(outbox: Engine, selection: Selection, *, limit: int) -> list[Sequence[UUID]]:
    page = await outbox.search(selection, limit=limit)
    pages = [_ids(page)]
    while page.more is not None:
        page = await outbox.search(selection, limit=limit, after=page.more)
        assert page.more != pages[-1][-1], "it is the same page again"
        pages.append(_ids(page))
    return pages


def _ids(page: Page) -> Sequence[UUID]:
    return [one.id for one in page.deliveries]
