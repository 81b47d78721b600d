"""``commit_with``: what a handler puts in its own transaction is there if that commits, and then once."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest

from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.errors import (
    ConfigurationError,
    OutboxUnavailable,
    PlanningError,
    SubscriptionExists,
    TransactionOpen,
)
from callback_middleware.operations import Operation
from callback_middleware.planning import Verb
from callback_middleware.ports import Batch, Fate, Joined, PutReport
from callback_middleware.responder import respond
from callback_middleware.staging import Callbacks, callbacks_of
from callback_middleware.subscription import SubscriptionKey
from callback_middleware.values import Reason
from passing import HELD_AT, OneOperation, Recorder, body, capture_for, operation, request_body, run, scope_of, start

KEY = SubscriptionKey("paid", "7", "alice")

READING = operation("{$request.query.callback_url}/{$request.body#/id}")


@dataclass
class Transaction:
    """What a handler's connection has open; it ends when the test says so.

    Attributes:
        refuses: What a put in it raises.
        asked: How often it was asked what became of it.
    """

    fate: Fate = Fate.OPEN
    refuses: Exception | None = None
    held: list[Batch] = field(default_factory=list)
    asked: int = 0

    def commit(self) -> None:
        self.fate = Fate.COMMITTED

    def roll_back(self) -> None:
        self.fate = Fate.ROLLED_BACK


class Joinable(Recorder):
    """An outbox that can be told what becomes of a transaction."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.hinted = anyio.Event()
        self.dispatched = 0
        self.left_out: dict[str, Any] = {}

    async def put_in(self, connection: object, batch: Batch) -> Joined:
        await anyio.lowlevel.checkpoint()
        return self.put_in_sync(connection, batch)

    def put_in_sync(self, connection: object, batch: Batch) -> Joined:
        assert isinstance(connection, Transaction)
        if connection.refuses is not None:
            raise connection.refuses
        connection.held.append(batch)
        return Joined(PutReport([one.id for one in batch.deliveries], **self.left_out), connection)

    async def fate(self, transaction: object) -> Fate:
        assert isinstance(transaction, Transaction)
        transaction.asked += 1
        await anyio.lowlevel.checkpoint()
        return transaction.fate

    async def committed(self) -> None:
        self.hinted.set()

    def on_put(self) -> None:
        self.dispatched += 1


Handler = Callable[[Callbacks], Awaitable[object]]


def handling(handler: Handler, *messages: Message, after: Handler | None = None) -> ASGIApp:
    """An application with this handler, these messages, and what it does after them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks = callbacks_of(scope)
        await handler(callbacks)
        for message in messages or (start(), body()):
            await send(message)
        if after is not None:
            await after(callbacks)

    return app


async def serve(
    handler: Handler,
    *messages: Message,
    after: Handler | None = None,
    outbox: Joinable | None = None,
    known: Operation | None = None,
    **changes: Any,
) -> Joinable:
    outbox = outbox or Joinable()
    changes = {"on_put": outbox.on_put, **changes}
    await run(handling(handler, *messages, after=after), outbox, known, **changes)
    return outbox


def sending(transaction: Transaction) -> Handler:
    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", {"paid": True})
        await callbacks.commit_with(transaction)

    return handler


def committing(transaction: Transaction) -> Handler:
    async def handler(callbacks: Callbacks) -> None:
        await sending(transaction)(callbacks)
        transaction.commit()

    return handler


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    """Log lines that somebody must see."""
    lines = Lines()
    logger = logging.getLogger("callback_middleware")
    logger.addHandler(lines)
    yield lines.records
    logger.removeHandler(lines)


# What is put, and where


async def test_what_was_staged_is_put_in_the_transaction_and_nowhere_else() -> None:
    transaction = Transaction()
    ids = []

    async def handler(callbacks: Callbacks) -> None:
        ids.append(callbacks.send("paid", {"paid": True}).id)
        await callbacks.commit_with(transaction)
        transaction.commit()

    outbox = await serve(handler)
    assert [[one.id for one in batch.deliveries] for batch in transaction.held] == [ids]
    assert outbox.happened == [start(), body()]
    assert [[one.id for one in batch.deliveries] for batch in outbox.told] == [ids]
    assert outbox.dispatched == 1
    with anyio.fail_after(5):
        await outbox.hinted.wait()


async def test_a_handler_that_blocks_puts_in_its_own_thread() -> None:
    transaction = Transaction()

    async def handler(callbacks: Callbacks) -> None:
        def work() -> None:
            callbacks.send("paid", {"paid": True})
            callbacks.commit_with_sync(transaction)
            transaction.commit()

        await anyio.to_thread.run_sync(work)

    outbox = await serve(handler)
    assert len(transaction.held) == 1
    assert outbox.happened == [start(), body()]
    assert len(outbox.told) == 1


async def test_whatever_was_staged_joins_as_one_batch() -> None:
    transaction = Transaction()

    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", {"paid": True})
        callbacks.subscribe("paid", key="8", owner="alice")
        callbacks.notify("paid", {"paid": True}, key="7", owner="alice")
        callbacks.unsubscribe("paid", key="7", owner="alice")
        await callbacks.commit_with(transaction)
        transaction.commit()

    await serve(handler)
    (batch,) = transaction.held
    assert (len(batch.deliveries), len(batch.notify), list(batch.end)) == (1, 1, [KEY])
    assert [one.key.key for one in batch.subscribe] == ["8"]


async def test_an_operation_that_documents_nothing_notifies_in_its_transaction() -> None:
    transaction = Transaction()
    outbox = Joinable()

    async def handler(callbacks: Callbacks) -> None:
        callbacks.notify("paid", {"paid": True}, key="7", owner="alice")
        await callbacks.commit_with(transaction)
        transaction.commit()

    directory = OneOperation(None, elsewhere=[operation()])
    await respond(capture_for(outbox, directory), handling(handler), scope_of(), outbox.receive, outbox.send)
    assert [len(batch.notify) for batch in transaction.held] == [1]
    assert len(outbox.told) == 1


async def test_what_is_staged_later_is_put_with_the_response() -> None:
    transaction = Transaction()

    async def handler(callbacks: Callbacks) -> None:
        await committing(transaction)(callbacks)
        callbacks.send("paid", {"later": True})

    outbox = await serve(handler)
    assert [one.body for batch in transaction.held for one in batch.deliveries] == [b'{"paid":true}']
    assert [one.body for one in outbox.deliveries] == [b'{"later":true}']
    assert outbox.happened == ["put", start(), body()]


async def test_each_transaction_has_what_was_staged_since_the_last() -> None:
    first, second = Transaction(), Transaction()

    async def handler(callbacks: Callbacks) -> None:
        await committing(first)(callbacks)
        await committing(second)(callbacks)
        await callbacks.commit_with(second)

    outbox = await serve(handler)
    assert (len(first.held), len(second.held)) == (1, 1)
    assert len(outbox.told) == 2


async def test_what_the_outbox_leaves_out_has_its_reason_and_is_not_told_as_stored() -> None:
    transaction, outbox = Transaction(), Joinable()

    async def handler(callbacks: Callbacks) -> None:
        outbox.left_out = {"duplicates": [callbacks.send("paid", {"paid": True}, dedupe="7").id]}
        await callbacks.commit_with(transaction)
        transaction.commit()

    await serve(handler, outbox=outbox)
    assert [skip.reason for skip in outbox.skips] == [Reason.DUPLICATE]
    assert [list(batch.deliveries) for batch in outbox.told] == [[]]


async def test_the_body_that_an_expression_needs_is_read_to_its_end() -> None:
    transaction = Transaction()
    outbox = Joinable(requests=[request_body(b'{"id"', more=True), request_body(b": 7}")])
    await serve(committing(transaction), outbox=outbox, known=READING)
    assert [one.url for one in transaction.held[0].deliveries] == ["https://ext.example/e/7"]


async def test_a_handler_that_blocks_has_the_body_that_was_read_before() -> None:
    transaction = Transaction()
    outbox = Joinable(requests=[request_body(b'{"id": 7}')])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callbacks = callbacks_of(scope)
        callbacks.send("paid", {"paid": True})
        with pytest.raises(PlanningError, match="read it before, or use await commit_with"):
            callbacks.commit_with_sync(transaction)
        await receive()
        callbacks.commit_with_sync(transaction)
        transaction.commit()
        await send(start())
        await send(body())

    await run(app, outbox, READING)
    assert [one.url for one in transaction.held[0].deliveries] == ["https://ext.example/e/7"]


# What decides


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_the_transaction_decides_and_not_the_status(status: int) -> None:
    transaction = Transaction()
    outbox = await serve(committing(transaction), start(status), body())
    assert outbox.happened == [start(status), body()]
    assert len(outbox.told) == 1
    assert not outbox.skips


async def test_what_was_rolled_back_is_told_to_nobody_as_stored_and_has_its_reason() -> None:
    transaction = Transaction()

    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", {"paid": True})
        callbacks.subscribe("paid", key="8", owner="alice")
        callbacks.notify("paid", {"paid": True}, key="7", owner="alice")
        callbacks.unsubscribe("paid", key="7", owner="alice")
        await callbacks.commit_with(transaction)
        transaction.roll_back()

    outbox = await serve(handler)
    assert outbox.happened == [start(), body()]
    assert (outbox.told, outbox.dispatched, outbox.hinted.is_set()) == ([], 0, False)
    assert [(skip.verb, skip.reason) for skip in outbox.skips] == [(verb, Reason.STATUS) for verb in Verb]
    assert {skip.detail for skip in outbox.skips} == {"the transaction that it was put in was rolled back"}


@pytest.mark.parametrize("known", [operation("{$response.header.location}"), operation(on="201")])
async def test_what_hangs_on_the_response_is_refused_and_stays_staged(known: Operation) -> None:
    transaction = Transaction()

    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", {"paid": True})
        with pytest.raises(PlanningError, match="commit_with puts it before there is one"):
            await callbacks.commit_with(transaction)
        with pytest.raises(PlanningError, match="commit_with puts it before there is one"):
            callbacks.commit_with_sync(transaction)

    outbox = await serve(handler, start(201, (b"location", b"https://ext.example/1")), body(), known=known)
    assert not transaction.held
    assert len(outbox.deliveries) == 1


async def test_what_planning_skips_is_told_as_ever() -> None:
    transaction = Transaction()
    outbox = Joinable()
    await run(handling(sending(transaction)), outbox, scope=scope_of(query=b"callback_url=http://127.0.0.1/"))
    assert not transaction.held
    assert [skip.reason for skip in outbox.skips] == [Reason.REFUSED]
    assert outbox.happened == [start(), body()]


async def test_another_owners_key_is_the_handlers_to_deal_with() -> None:
    transaction = Transaction(refuses=SubscriptionExists("another's"))

    async def handler(callbacks: Callbacks) -> None:
        callbacks.subscribe("paid", key="7", owner="bob")
        with pytest.raises(SubscriptionExists):
            await callbacks.commit_with(transaction)

    outbox = await serve(handler, start(409), body())
    assert outbox.happened == [start(409), body()]
    assert [skip.reason for skip in outbox.skips] == [Reason.STATUS]


async def test_what_could_not_be_put_is_staged_as_before() -> None:
    transaction = Transaction(refuses=OutboxUnavailable("the database refused"))

    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", 1)
        with pytest.raises(OutboxUnavailable):
            await callbacks.commit_with(transaction)
        callbacks.send("paid", 2)
        with pytest.raises(OutboxUnavailable):
            callbacks.commit_with_sync(transaction)
        transaction.refuses = None
        await committing(transaction)(callbacks)

    await serve(handler)
    (batch,) = transaction.held
    assert [one.body for one in batch.deliveries] == [b"1", b"2", b'{"paid":true}']


async def test_what_a_cancelled_put_left_open_is_staged_as_before() -> None:
    transaction = Transaction()
    outbox = Joinable()

    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await callbacks.commit_with(transaction)

    await serve(handler, outbox=outbox)
    assert not transaction.held
    assert [one.body for one in outbox.deliveries] == [b"1"]


async def test_a_time_beyond_the_calendar_is_the_handlers_to_deal_with() -> None:
    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", 1, delay=timedelta.max)
        with pytest.raises(PlanningError, match="beyond the calendar"):
            await callbacks.commit_with(Transaction())

    await serve(handler, start(400), body())


async def test_an_outbox_that_joins_nothing_says_which_do() -> None:
    outbox = Recorder()

    async def handler(callbacks: Callbacks) -> None:
        with pytest.raises(ConfigurationError, match=r"Recorder cannot .* PostgresOutbox, or SQLiteOutbox"):
            await callbacks.commit_with(object())
        with pytest.raises(ConfigurationError, match="PostgresOutbox"):
            callbacks.commit_with_sync(object())

    await run(handling(handler), outbox)


async def test_where_transactions_are_not_joined_all_stays_staged() -> None:
    outbox = Recorder()

    async def handler(callbacks: Callbacks) -> None:
        callbacks.send("paid", 1)
        await callbacks.commit_with(object())
        callbacks.send("paid", 2)
        callbacks.commit_with_sync(object())

    await run(handling(handler), outbox, joins=False)
    assert [one.body for one in outbox.deliveries] == [b"1", b"2"]


async def test_disabled_it_joins_nothing() -> None:
    callbacks = Callbacks(None, new_id=lambda: None, enabled=False)  # type: ignore[arg-type, return-value]
    await callbacks.commit_with(object())
    callbacks.commit_with_sync(object())


# A transaction that is still open


@pytest.mark.parametrize(("method", "messages", "put_at"), HELD_AT)
async def test_it_is_asked_before_the_message_that_completes_the_response(
    method: str, messages: list[Message], put_at: int
) -> None:
    transaction = Transaction()
    sent_by_then = []

    class Asked(Joinable):
        async def fate(self, transaction: object) -> Fate:
            sent_by_then.append(len(self.sent))
            return Fate.COMMITTED

    outbox = Asked()
    await run(handling(sending(transaction), *messages), outbox, scope=scope_of(method))
    assert sent_by_then == [put_at]
    assert outbox.sent == messages


async def test_a_success_whose_transaction_is_open_becomes_a_500_and_the_log_says_why(
    errors: list[logging.LogRecord],
) -> None:
    transaction = Transaction()
    outbox = await serve(sending(transaction), start(201, (b"location", b"/invoices/1")), body(b"{}"))
    begin, end = outbox.sent
    assert begin["status"] == 500
    assert not {b"location", b"retry-after"} & dict(begin["headers"]).keys()
    assert int(dict(begin["headers"])[b"content-length"]) == len(end["body"])
    (line,) = errors
    assert line.levelno == logging.ERROR
    assert "POST /invoices: its response is complete" in line.getMessage()
    assert 'Depends(…, scope="function")' in line.getMessage()
    assert "commit it before the handler returns" in line.getMessage()
    assert not outbox.told


async def test_what_was_staged_beside_it_is_dropped_with_a_reason(errors: list[logging.LogRecord]) -> None:
    async def handler(callbacks: Callbacks) -> None:
        await sending(Transaction())(callbacks)
        callbacks.send("paid", {"later": True})

    outbox = await serve(handler)
    assert not outbox.deliveries
    assert [(skip.reason, skip.detail) for skip in outbox.skips] == [
        (Reason.STATUS, "another callback's transaction was still open")
    ]


async def test_a_response_that_is_half_sent_is_broken_off_when_its_transaction_is_open(
    errors: list[logging.LogRecord],
) -> None:
    outbox = Joinable()
    with pytest.raises(TransactionOpen):
        await serve(sending(Transaction()), start(), body(b"a", more=True), body(b"b"), outbox=outbox)
    assert outbox.happened == [start(), body(b"a", more=True)]
    assert len(errors) == 1


async def test_told_to_log_alone_a_response_with_an_open_transaction_is_forwarded(
    errors: list[logging.LogRecord],
) -> None:
    async def handler(callbacks: Callbacks) -> None:
        await sending(Transaction())(callbacks)
        callbacks.send("paid", {"later": True})

    outbox = await serve(handler, respond=False)
    assert outbox.happened == ["put", start(), body()]
    assert len(errors) == 1


async def test_what_is_committed_after_the_500_is_told_and_sent(errors: list[logging.LogRecord]) -> None:
    transaction = Transaction()

    async def exit_of_a_dependency(callbacks: Callbacks) -> None:
        transaction.commit()

    outbox = await serve(sending(transaction), after=exit_of_a_dependency)
    assert outbox.sent[0]["status"] == 500
    assert (len(outbox.told), outbox.dispatched) == (1, 1)
    assert len(errors) == 1


async def test_one_open_transaction_is_enough() -> None:
    async def handler(callbacks: Callbacks) -> None:
        await committing(Transaction())(callbacks)
        await sending(Transaction())(callbacks)

    outbox = await serve(handler)
    assert outbox.sent[0]["status"] == 500
    assert len(outbox.told) == 1


# A transaction of which nobody knows


async def test_where_the_outbox_does_not_know_the_response_is_forwarded_with_a_warning(
    errors: list[logging.LogRecord],
) -> None:
    outbox = await serve(sending(Transaction(Fate.UNKNOWN)))
    assert outbox.happened == [start(), body()]
    assert [line.levelno for line in errors] == [logging.WARNING]
    assert "does not say whether the transaction" in errors[0].getMessage()
    # They may be there: somebody must look.
    assert (outbox.told, outbox.dispatched) == ([], 1)


async def test_an_outbox_that_never_answers_is_asked_no_longer_than_a_put_would_take(
    errors: list[logging.LogRecord],
) -> None:
    class Hanging(Joinable):
        async def fate(self, transaction: object) -> Fate:
            await anyio.sleep_forever()
            raise AssertionError

    outbox = await serve(sending(Transaction()), outbox=Hanging(), put_timeout=0.01)
    assert outbox.happened == [start(), body()]
    assert len(errors) == 1


async def test_an_engine_that_raises_what_it_should_not_does_not_know(errors: list[logging.LogRecord]) -> None:
    class Raising(Joinable):
        async def fate(self, transaction: object) -> Fate:
            raise ValueError("a bug")

    outbox = await serve(sending(Transaction()), outbox=Raising())
    assert outbox.happened == [start(), body()]
    assert [line.levelno for line in errors] == [logging.ERROR, logging.WARNING]


# When it ends otherwise


async def test_what_a_handler_committed_before_it_raised_stays() -> None:
    async def handler(callbacks: Callbacks) -> None:
        await committing(Transaction())(callbacks)
        callbacks.send("paid", {"later": True})
        raise ValueError("handler")

    outbox = Joinable()
    with pytest.raises(ValueError, match="handler"):
        await serve(handler, outbox=outbox)
    assert (len(outbox.told), outbox.dispatched) == (1, 1)
    assert [skip.detail for skip in outbox.skips] == ["the application raised ValueError"]
    assert not outbox.deliveries


async def test_a_handler_that_raises_with_an_open_transaction_has_it_in_the_log(
    errors: list[logging.LogRecord],
) -> None:
    async def handler(callbacks: Callbacks) -> None:
        await sending(Transaction())(callbacks)
        raise ValueError("handler")

    with pytest.raises(ValueError, match="handler"):
        await serve(handler)
    assert [line.levelno for line in errors] == [logging.WARNING]


async def test_what_a_cancelled_request_committed_is_told_all_the_same() -> None:
    outbox, reached = Joinable(), anyio.Event()

    async def handler(callbacks: Callbacks) -> None:
        await committing(Transaction())(callbacks)
        reached.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:

        async def request() -> None:
            await serve(handler, outbox=outbox)

        tasks.start_soon(request)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert len(outbox.told) == 1


async def test_cancelled_in_the_middle_of_a_success_its_transaction_is_asked() -> None:
    outbox, reached = Joinable(), anyio.Event()

    async def after(callbacks: Callbacks) -> None:
        reached.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:

        async def request() -> None:
            await serve(committing(Transaction()), start(), body(b"half", more=True), after=after, outbox=outbox)

        tasks.start_soon(request)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert len(outbox.told) == 1


async def test_a_client_that_goes_away_changes_nothing() -> None:
    outbox = await serve(committing(Transaction()), start())
    assert outbox.happened == [start()]
    assert len(outbox.told) == 1


async def test_an_application_that_answers_nothing_has_committed_all_the_same() -> None:
    transaction, outbox = Transaction(), Joinable()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await committing(transaction)(callbacks_of(scope))

    await run(app, outbox)
    assert len(outbox.told) == 1


async def test_a_background_task_may_commit_with_its_transaction_too() -> None:
    transaction = Transaction()

    async def nothing(callbacks: Callbacks) -> None: ...

    outbox = await serve(nothing, after=committing(transaction))
    assert outbox.happened == [start(), body()]
    assert (len(transaction.held), len(outbox.told), outbox.dispatched) == (1, 1, 1)


async def test_a_background_task_that_leaves_its_transaction_open_has_it_in_the_log(
    errors: list[logging.LogRecord],
) -> None:
    async def nothing(callbacks: Callbacks) -> None: ...

    outbox = await serve(nothing, after=sending(Transaction()))
    assert outbox.happened == [start(), body()]
    (line,) = errors
    assert line.levelno == logging.ERROR
    assert "POST /invoices: it has returned" in line.getMessage()


async def test_after_the_request_nothing_is_committed_with_anything() -> None:
    kept: list[Callbacks] = []

    async def handler(callbacks: Callbacks) -> None:
        kept.append(callbacks)

    await serve(handler)
    with pytest.raises(PlanningError, match="has ended"):
        await kept[0].commit_with(Transaction())
    with pytest.raises(PlanningError, match="has ended"):
        kept[0].commit_with_sync(Transaction())


async def test_a_request_that_committed_and_is_over_is_held_by_nothing() -> None:
    responders: list[weakref.ref[Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        responders.append(weakref.ref(scope["callback_middleware"]))
        await handling(committing(Transaction()))(scope, receive, send)

    gc.disable()
    try:
        scope = scope_of()
        await run(app, Joinable(), scope=scope)
        assert responders[0]() is None
    finally:
        gc.enable()
