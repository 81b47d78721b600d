from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from postgres_setting import PostgresSetting

from callback_middleware.backlog import Bound
from callback_middleware.errors import OutboxUncertain
from callback_middleware.outbox.plenty import PLENTY
from callback_middleware.outbox.postgres import PostgresOutbox, puts
from callback_middleware.outbox.postgres.room import Room
from callback_middleware.ports import Batch, PutReport
from callback_middleware.retry import RetryPolicy
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import HERE, KEY, THERE, OutboxSetting, bounded

OUT_OF_RANGE: Sequence[Any] = [
    pytest.param({"deadline": timedelta(days=999_999_999)}, id="a deadline of ages"),
    pytest.param({"url": "https://here.example/\ud800"}, id="half a surrogate pair"),
    pytest.param({"origin": "https://h\0re.example"}, id="a NUL in an origin"),
    pytest.param({"created_at": "yesterday"}, id="a time that is none"),
    pytest.param({"body": "no bytes"}, id="a text for a body"),
    pytest.param({"tags": {"tenant": "\ud800"}}, id="half a surrogate pair in a tag"),
    pytest.param({"due_at": datetime(2030, 1, 1)}, id="a time without a zone"),  # noqa: DTZ001 - that is the matter
]


class TestPuts(PostgresSetting, OutboxSetting):
    async def put_together(self, outbox: PostgresOutbox, *batches: Batch) -> list[PutReport | Exception]:
        """Put these at once; what became of each."""
        results: list[PutReport | Exception] = [PutReport()] * len(batches)

        async def put(number: int, batch: Batch) -> None:
            try:
                results[number] = await outbox.put(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is
                results[number] = error

        async with anyio.create_task_group() as tasks:
            for number, batch in enumerate(batches):
                tasks.start_soon(put, number, batch)
        return results

    async def test_times_that_look_alike_because_a_clock_was_put_back_between_them_are_kept_apart(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        first = datetime(2030, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        second = first.replace(fold=1)
        one, other = self.delivery(clock, due_at=first), self.delivery(clock, due_at=second)
        later = self.delivery(clock, created_at=first, due_at=second)
        await outbox.put(Batch([one, other, later]))
        between = (await outbox.get(other.id)).due_at - (await outbox.get(one.id)).due_at
        assert between == timedelta(hours=1)
        kept = await outbox.get(later.id)
        assert kept.due_at - kept.created_at == timedelta(hours=1)

    @pytest.mark.parametrize("dedupe", [None, "once"], ids=["plain", "keyed"])
    @pytest.mark.parametrize("attributes", OUT_OF_RANGE)
    async def test_a_batch_that_cannot_be_stored_is_told_so_alone(
        self, outbox: PostgresOutbox, clock: VirtualClock, attributes: dict[str, Any], dedupe: str | None
    ) -> None:
        good, other, bad = self.delivery(clock), self.delivery(clock, dedupe=dedupe), self.delivery(clock, **attributes)
        first, refused, last = await self.put_together(
            outbox, Batch([good]), Batch([self.delivery(clock), bad]), Batch([other])
        )
        assert isinstance(first, PutReport)
        assert isinstance(last, PutReport)
        assert (first.stored, last.stored) == ([good.id], [other.id])
        assert isinstance(refused, Exception)
        # Whole or not at all.
        assert (await outbox.counts())[State.PENDING] == 2
        assert outbox.outage is None
        # The connection is as good as before.
        assert (await outbox.put(Batch([self.delivery(clock)]))).stored

    async def test_each_of_a_burst_keeps_what_only_it_says(self, outbox: PostgresOutbox, clock: VirtualClock) -> None:
        """What all say is told once. The first and the last alike, in case these alone were compared."""
        every = [
            self.delivery(clock, url=url, tags=tags, body=body, expires_at=expires)
            for url, tags, body, expires in [
                ("https://here.example/1", {}, b"1", None),
                ("https://here.example/2", {"tenant": "1"}, None, clock.now() + timedelta(days=1)),
                ("https://here.example/1", {}, b"1", None),
            ]
        ]

        await self.put(outbox, *every)

        kept = [await outbox.get(one.id) for one in every]
        assert [(one.url, one.tags, one.body, one.expires_at) for one in kept] == [
            (one.url, one.tags, one.body, one.expires_at) for one in every
        ]

    async def test_one_that_cannot_be_stored_and_is_put_alone_is_told_so(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        with pytest.raises(Exception, match="surrogates not allowed"):
            await self.put(outbox, self.delivery(clock, url="https://here.example/\ud800"))
        assert outbox.outage is None

    async def test_a_time_without_a_zone_is_refused_whatever_is_put_with_it(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        naive = self.delivery(clock, due_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is what it is about
        for batch in (Batch([naive]), Batch([replace(naive, dedupe="once")])):
            with pytest.raises(ValueError, match="zone"):
                await outbox.put(batch)
        assert (await outbox.counts())[State.PENDING] == 0

    async def test_what_a_database_does_not_take_in_a_text_is_spelled_out(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        odd: dict[str, Any] = {"operation": "POST /\0\ud800", "callback": "\0", "tags": {"t\0": "\0"}}
        plain, keyed = self.delivery(clock, **odd), self.delivery(clock, **odd, dedupe="\0\ud800")
        await self.put(outbox, plain)
        await self.put(outbox, keyed)
        for one in (plain, keyed):
            stored = await outbox.get(one.id)
            assert (stored.operation, stored.callback) == ("POST /\\x00\\ud800", "\\x00")
            assert stored.tags == odd["tags"]
        assert (await outbox.put(Batch([self.delivery(clock, **odd, dedupe="\0\ud800")]))).duplicates

    async def test_more_than_one_statement_takes_are_stored_all_the_same(
        self, outbox: PostgresOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(puts, "MOST_ROWS", 3)
        many = [self.delivery(clock) for _ in range(4)]
        assert (await outbox.put(Batch(many))).stored == [one.id for one in many]

    async def test_what_the_database_fails_with_in_the_middle_is_told_to_all(
        self, outbox: PostgresOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_alone: list[Batch] = []

        async def cut_off(connection: Any, batches: Sequence[Batch], _: datetime) -> Any:
            put_alone.extend(batches)
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        monkeypatch.setattr(outbox._puts, "_put_each", cut_off)
        bad = self.delivery(clock, url="https://here.example/\ud800")
        results = await self.put_together(outbox, Batch([self.delivery(clock)]), Batch([bad]))
        assert [type(one) for one in results] == [OutboxUncertain] * 2
        assert len(put_alone) == 1

    async def test_a_policy_is_kept_once_whoever_puts_with_it(
        self, outbox: PostgresOutbox, clock: VirtualClock, migrated: str
    ) -> None:
        policies = [RetryPolicy.fixed(1), RetryPolicy.fixed(2, max_age=timedelta(hours=1)), RetryPolicy()]
        other = PostgresOutbox(migrated, clock=clock, backlog=None)
        async with anyio.create_task_group() as tasks:
            for one in (outbox, other):
                for policy in policies * 2:
                    tasks.start_soon(self.put, one, self.delivery(clock, retry=policy))
                    tasks.start_soon(self.put, one, self.delivery(clock, retry=policy, dedupe=str(next(self._numbers))))
        kept = await outbox._ask(
            lambda connection: connection.fetchval("SELECT count(*) FROM callback_middleware.retry")
        )
        assert kept == 3
        claims = await self.claim(other)
        assert {claim.delivery.retry for claim in claims} == set(policies)
        await other.aclose()


class TestRoom(PostgresSetting, OutboxSetting):
    @pytest.fixture
    def looks(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many origins were looked at, each time that any were."""
        looks: list[int] = []
        look = Room._look

        async def counted(self: Room, connection: Any, limits: Any, origins: Any) -> Any:
            looks.append(len(origins))
            return await look(self, connection, limits, origins)

        monkeypatch.setattr(Room, "_look", counted)
        return looks

    @bounded(per_origin=PLENTY * 2, newcomer=None)
    async def test_who_has_plenty_of_room_is_looked_at_once_in_a_while(
        self, outbox: PostgresOutbox, clock: VirtualClock, looks: list[int]
    ) -> None:
        for _ in range(3):
            await self.put(outbox, self.delivery(clock, origin=HERE), self.delivery(clock, origin=THERE))
        assert looks in ([2], [2, 2])

    @bounded(per_origin=PLENTY - 1)
    async def test_who_has_not_is_looked_at_every_time(
        self, outbox: PostgresOutbox, clock: VirtualClock, looks: list[int]
    ) -> None:
        for _ in range(3):
            await self.put(outbox, self.delivery(clock))
        assert looks == [1, 1, 1]

    @bounded(per_origin=PLENTY * 2, newcomer=None)
    async def test_after_what_was_not_taken_off_all_are_looked_at_again(
        self, outbox: PostgresOutbox, clock: VirtualClock, looks: list[int]
    ) -> None:
        await self.put(outbox, self.delivery(clock))
        await self.put(outbox, self.delivery(clock, dedupe="once"))
        await self.put(outbox, self.delivery(clock))
        assert looks == [1, 1]

    @bounded(per_origin=None, newcomer=2)
    async def test_who_has_accepted_one_and_has_no_bound_has_room_for_any_number(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.put_and_end(outbox, clock, self.delivery(clock))
        many = [self.delivery(clock) for _ in range(5)]
        report = await outbox.put(Batch([*many, self.delivery(clock, origin=THERE)]))
        assert len(report.stored) == 6

    @bounded(per_origin=None, newcomer=None, per_owner=1)
    async def test_one_put_of_many_kinds_is_bounded_by_its_owner_alone(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.subscribe(outbox, self.subscription(clock))
        first, second = self.notification(clock), self.notification(clock)
        report = await outbox.put(Batch([self.delivery(clock)], notify=[first, second]))
        assert {one: refusal.bound for one, refusal in report.refused.items()} == {second.id: Bound.PER_OWNER}
        await self.unsubscribe(outbox, KEY)

    @bounded(per_origin=4)
    async def test_of_a_crowded_origin_the_first_that_fit_are_stored_also_with_an_id_twice(
        self, outbox: PostgresOutbox, clock: VirtualClock
    ) -> None:
        await self.put(outbox, self.delivery(clock), self.delivery(clock))
        one, two, three = (self.delivery(clock) for _ in range(3))
        report = await outbox.put(Batch([one, one, two, three, self.delivery(clock, origin=THERE)]))
        assert report.stored[:2] == [one.id, two.id]
        assert list(report.refused) == [three.id]
