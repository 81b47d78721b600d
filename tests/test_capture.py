"""What was planned is put as one batch, and everything that the outbox makes of it is told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from callback_middleware.backlog import Bound, Refusal
from callback_middleware.capture import Capture
from callback_middleware.errors import OutboxUnavailable
from callback_middleware.exchange import Exchange
from callback_middleware.planning import (
    Asked,
    Planned,
    Verb,
    Wanted,
    WantedEnd,
    WantedNotification,
    WantedSubscription,
    plan,
)
from callback_middleware.ports import Batch, PutReport
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.values import Reason
from passing import NOW, OneOperation, Recorder, capture_for, operation

KNOWN = operation()
PAID = KNOWN.callbacks[0]
SEND = Wanted(id=UUID(int=1), callback=PAID, body=b"{}", dedupe="hidden-key")
SUBSCRIBE = WantedSubscription(callback=PAID, key="7", owner="alice")
NOTIFY = WantedNotification(
    id=UUID(int=2), operation="POST /invoices", callback="paid", key="7", owner="alice", body=b"{}", dedupe="hidden-key"
)
END = WantedEnd(operation="POST /invoices", callback="paid", key="8", owner="alice")


def planned(*asked: Asked, status: int = 200) -> Planned:
    exchange = Exchange.build(
        url="https://api.example/invoices?callback_url=https://ext.example/e", response_status=status
    )
    capture = capture_for(Recorder(), OneOperation(KNOWN))
    return plan(KNOWN, exchange, asked, egress=capture.egress, new_id=capture.new_id)


def capture(recorder: Recorder, **changes: Any) -> Capture:
    return capture_for(recorder, OneOperation(KNOWN), **changes)


def test_everything_that_was_planned_is_one_batch() -> None:
    batch = capture(Recorder()).batch(planned(SEND, SUBSCRIBE, NOTIFY, END))
    assert batch is not None
    assert [one.id for one in batch.deliveries] == [SEND.id]
    assert [one.key for one in batch.subscribe] == [SubscriptionKey("paid", "7", "alice")]
    assert [one.id for one in batch.notify] == [NOTIFY.id]
    assert batch.end == [SubscriptionKey("paid", "8", "alice")]
    created = [one.created_at for one in batch.deliveries]
    created += [one.created_at for one in batch.subscribe]
    created += [one.created_at for one in batch.notify]
    assert created == [NOW] * 3


@pytest.mark.parametrize("asked", [SEND, SUBSCRIBE, NOTIFY, END], ids=list(Verb))
def test_each_kind_alone_is_something_to_put_and_nothing_is_nothing(asked: Asked) -> None:
    assert capture(Recorder()).batch(planned(asked)) is not None
    assert capture(Recorder()).batch(planned(asked, status=404)) is None


async def test_what_is_skipped_is_told_also_where_nothing_is_put() -> None:
    recorder = Recorder()
    result = planned(SEND, status=404)
    assert await capture(recorder).store(result, None) is None
    assert recorder.happened == []
    assert [skip.reason for skip in recorder.skips] == [Reason.STATUS]


async def test_what_the_outbox_leaves_out_is_told_as_skipped_and_not_as_stored() -> None:
    class Choosy(Recorder):
        async def put(self, batch: Batch) -> PutReport:
            return PutReport(stored=[UUID(int=3)], duplicates=[SEND.id, NOTIFY.id], unsubscribed=[UUID(int=4)])

    recorder = Choosy()
    kept = Wanted(id=UUID(int=3), callback=PAID, body=b"{}")
    unheard = WantedNotification(
        id=UUID(int=4), operation="POST /invoices", callback="paid", key="9", owner="secret-owner", body=b"{}"
    )
    result = planned(SEND, kept, SUBSCRIBE, NOTIFY, unheard, END)
    ours = capture(recorder)
    assert await ours.store(result, ours.batch(result)) is None
    assert [(skip.id, skip.verb, skip.reason) for skip in recorder.skips] == [
        (SEND.id, Verb.SEND, Reason.DUPLICATE),
        (NOTIFY.id, Verb.NOTIFY, Reason.DUPLICATE),
        (UUID(int=4), Verb.NOTIFY, Reason.NOBODY_SUBSCRIBED),
    ]
    assert "hidden-key" not in str(recorder.skips)
    assert "secret-owner" not in str(recorder.skips)
    (told,) = recorder.told
    assert [one.id for one in told.deliveries] == [UUID(int=3)]
    assert (len(told.subscribe), told.notify, len(told.end)) == (1, [], 1)


async def test_what_finds_no_room_is_told_with_the_bound_and_not_as_stored() -> None:
    sent = Refusal(Bound.NEWCOMER, 20, "https://ext.example:443")
    notified = Refusal(Bound.PER_OWNER, 7, "https://ext.example:443")

    class Full(Recorder):
        async def put(self, batch: Batch) -> PutReport:
            return PutReport(refused={SEND.id: sent, NOTIFY.id: notified})

    recorder = Full()
    result = planned(SEND, SUBSCRIBE, NOTIFY)
    ours = capture(recorder)
    assert await ours.store(result, ours.batch(result)) is None
    assert [(skip.id, skip.verb, skip.reason, skip.detail) for skip in recorder.skips] == [
        (SEND.id, Verb.SEND, Reason.BACKLOG_FULL, sent.detail),
        (NOTIFY.id, Verb.NOTIFY, Reason.BACKLOG_FULL, notified.detail),
    ]
    (told,) = recorder.told
    assert (told.deliveries, told.notify, len(told.subscribe)) == ([], [], 1)


async def test_somebody_is_called_to_dispatch_after_every_put_and_after_no_failure() -> None:
    called: list[int] = []
    recorder = Recorder()
    ours = capture(recorder, on_put=lambda: called.append(len(recorder.told)))
    result = planned(NOTIFY)
    await ours.store(result, ours.batch(result))
    assert called == [1]
    recorder.fails = OutboxUnavailable("no disk")
    assert await ours.store(result, ours.batch(result)) is recorder.fails
    assert called == [1]
