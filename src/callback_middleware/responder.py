"""The request path: one exchange, captured while it passes through, and put before it is complete.

Messages pass as they came, chunk for chunk and in order. Two things are changed, on operations that document
callbacks or whose handlers take their ``Callbacks``, and nowhere else: ``http.response.start`` waits for the next
message, and the message that completes the response for the client waits for ``Outbox.put``.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from typing import Final

import anyio

from callback_middleware.answers import DOWN, Failure, answer_to
from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.capture import UNDOCUMENTED, Answered, Capture
from callback_middleware.completion import WHOLE_FILES, Remainder, content_length, ends_at_start
from callback_middleware.exchange import Exchange
from callback_middleware.operations import Operation
from callback_middleware.planning import Asked, drop, plan, reads_request
from callback_middleware.recording import Recording, RequestTap
from callback_middleware.sources.discovery import UNROUTED, Unrouted
from callback_middleware.staging import SCOPE_KEY, Callbacks
from callback_middleware.transactions import Moment, Transactions

logger = logging.getLogger("callback_middleware")

_OVER: Final[Scope] = {}
"""Stands for the scope of a request that is over."""


async def respond(capture: Capture, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ``http`` request through ``app``, or refuse it while its callbacks could not be stored."""
    outage = capture.outbox.outage
    if outage is not None and capture.refuses(scope, outage):
        await DOWN.send(send)
        return
    outer = scope.get(SCOPE_KEY)
    if isinstance(outer, Responder):
        outer.stand_aside()
    # In the scope itself, as routers do: a copy would hide the route from middleware further out.
    responder = scope[SCOPE_KEY] = Responder(capture, scope, receive, send)
    try:
        await app(scope, responder.receive, responder.send)
    except BaseException as error:
        await responder.fail(error)
        raise
    else:
        if responder.operation is not None:
            await responder.finish()
    finally:
        # Server, scope and responder would hold each other, and leave every request to the garbage collector.
        scope.pop(SCOPE_KEY, None)


class _Phase(enum.Enum):
    WAITING = enum.auto()  # no response yet
    HELD = enum.auto()  # the start has come, and is kept until the next message
    STREAMING = enum.auto()  # the client has the start
    COMMITTED = enum.auto()  # what was staged is in the outbox, and everything passes
    REFUSED = enum.auto()  # the outbox failed and we answered; the application's own messages go nowhere


# Looked up in their enumeration at every use, they would cost as much as everything else that a message meets here.
_WAITING, _HELD, _STREAMING, _COMMITTED, _REFUSED = _Phase


class Responder:
    """One request: the ``receive`` and ``send`` that its application gets, and the owner of its callbacks.

    While ``operation`` is None everything passes: the route documents no callbacks and nobody has taken any in hand,
    or another instance further in owns them.
    """

    # What most requests never change is kept in the class: making a responder is all that many of them pay for.
    _phase = _WAITING
    operation: Operation | Unrouted | None = UNROUTED
    _callbacks: Callbacks | None = None
    _tap: RequestTap | None = None
    _start: Message | None = None
    _response: Recording | None = None
    _remainder = Remainder(None)
    _transactions: Transactions | None = None
    _status = 0
    _headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, capture: Capture, scope: Scope, receive: Receive, send: Send) -> None:
        self._capture = capture
        self._scope = scope
        self._receive = receive
        self._send = send

    def callbacks(self, scope: Scope) -> Callbacks:
        """The handler takes its callbacks in hand: from now on none is sent by itself."""
        if self._callbacks is None:
            # An inner middleware may have handed on a copy of the scope; the handler's own is the one that was routed.
            self._scope = scope
            operation = self._route()
            capture = self._capture
            self._callbacks = Callbacks(
                operation, new_id=capture.new_id, catalogue=capture.catalogue, joining=self._joining
            )
            if operation is None:
                self._hold()
        return self._callbacks

    def _joining(self) -> Transactions:
        """Where the handler's own transactions are joined: the same for all threads that ask at once."""
        operation = self.operation if isinstance(self.operation, Operation) else UNDOCUMENTED
        made = Transactions(self._capture, operation, self._scope, self._tapped)
        ours: Transactions = self.__dict__.setdefault("_transactions", made)
        return ours

    def _hold(self) -> None:
        """From now on this is a request like those that document callbacks."""
        self.operation = UNDOCUMENTED
        if self._status:
            # Its start has passed, and perhaps all of it: a stream, or a background task.
            self._phase = _STREAMING

    def stand_aside(self) -> None:
        """Another instance, further in, owns this request."""
        self.operation = None

    async def receive(self) -> Message:
        operation = self.operation
        if operation is UNROUTED:
            operation = self.operation = self._capture.directory.find(self._scope)
        if operation is None or (isinstance(operation, Operation) and not operation.needs.request_body):
            return await self._receive()
        # Also where no router has run yet, because a middleware further in reads the body first: keep it until then.
        return await self._tapped().receive()

    async def send(self, message: Message) -> None:
        phase = self._phase
        if self.operation is None:
            # Kept for who takes the callbacks in hand only after the start has passed.
            self._status = message.get("status", self._status)
            await self._send(message)
        elif phase is _COMMITTED:
            await self._send(message)
        elif phase is _WAITING:
            operation = self._begin(message)
            if operation is None:
                await self._send(message)
            elif ends_at_start(self._scope["method"], self._status, self._remainder.length):
                await self._commit(operation)
                await self._release()
        elif phase is not _REFUSED:
            await self._go_on(message)

    def _begin(self, message: Message) -> Operation | None:
        """The operation that holds this message, which is the start of its response; None for one that passes."""
        if message["type"] != "http.response.start":
            # Early hints and the like come before the response.
            return None
        self._status = int(message["status"])
        operation = self._route()
        if operation is not None:
            self._start = message
            self._phase = _HELD
            self._headers = list(message.get("headers", ()))
            self._remainder = Remainder(content_length(self._headers))
            self._response = Recording(self._capture.limits.response_body) if operation.needs.response_body else None
        return operation

    async def _go_on(self, message: Message) -> None:
        if self._completes(message) and isinstance(self.operation, Operation):
            error = await self._commit(self.operation)
            if error is not None:
                # The client has half of a success. It must not get the other half: a broken response is no promise.
                raise error
        if self._start is not None:
            await self._release()
        if self._phase is not _REFUSED:
            await self._send(message)

    async def _release(self) -> None:
        """Let the start go that was held."""
        start, self._start = self._start, None
        if start is None or self._phase is _REFUSED:
            return
        if self._phase is _HELD:
            self._phase = _STREAMING
        await self._send(start)

    def _completes(self, message: Message) -> bool:
        """Whether the client has the whole response once it has this message. Records what passes."""
        if self._response is not None:
            if message["type"] in WHOLE_FILES:
                # The server reads the file itself: its content never passes here.
                self._response.truncate()
            else:
                self._response.add(message.get("body", b""))
        return self._remainder.ends_with(message)

    async def _commit(self, operation: Operation) -> Failure | None:
        """Plan and put what is to be sent; on return the client may have the whole response.

        Unless an error is returned: then it has a part of it already, and its callbacks may not come to be.
        """
        self._phase = _COMMITTED
        error: Failure | None = None
        if self._transactions is not None:
            error = await self._transactions.settle(Moment.COMPLETE)
        if error is not None and self._capture.respond:
            self._drop("another callback's transaction was still open")
        else:
            staged = None if self._callbacks is None else self._callbacks.take_staged()
            if not (operation.automatic if staged is None else staged):
                return None
            error = await self._store(operation, staged)
        if error is None or not self._capture.respond:
            return None
        if self._start is None:
            return error
        self._phase = _REFUSED
        await answer_to(error).send(self._send)
        return None

    async def _store(self, operation: Operation, staged: Sequence[Asked] | None) -> Failure | None:
        capture = self._capture
        try:
            exchange = await self._exchange(operation, staged)
            planned = plan(operation, exchange, staged, egress=capture.egress, new_id=capture.new_id)
            batch = capture.batch(planned)
        except Exception:
            # Nothing that a request holds raises here. A mistake of ours must not become the application's.
            logger.exception("%s: its callbacks are not sent: planning them failed", operation)
            return None
        return await capture.store(planned, batch)

    async def _exchange(self, operation: Operation, staged: Sequence[Asked] | None) -> Exchange:
        """The exchange as far as this needs it. Reads the rest of the request only where that is needed."""
        request = None
        if reads_request(operation, staged, self._status):
            request = await self._tapped().whole(self._capture.limits.drain_seconds)
        answered = Answered(self._status, self._headers, self._response)
        return self._capture.exchange(self._scope, operation, request, answered)

    async def finish(self) -> None:
        """The application returned."""
        operation = self.operation
        if isinstance(operation, Operation):
            if self._phase is _HELD or self._phase is _STREAMING:
                # Without a last message: its client went away, and the application had answered.
                await self._commit(operation)
                await self._release()
            elif self._phase is _COMMITTED and self._callbacks is not None:
                # A background task staged these after the response was complete.
                late = self._callbacks.take_staged()
                if late:
                    await self._store(operation, late)
        if self._transactions is not None:
            await self._transactions.settle(Moment.RETURNED)
        self._end("the application returned without a response")

    async def fail(self, error: BaseException) -> None:
        """The application raised, or was cancelled."""
        answered = self._phase is _HELD or self._phase is _STREAMING
        if answered and isinstance(self.operation, Operation) and isinstance(error, anyio.get_cancelled_exc_class()):
            # It had answered, and was stopped while it did: for its callbacks that is a success.
            with anyio.CancelScope(shield=True):
                await self._commit(self.operation)
        if self._transactions is not None:
            await self._transactions.settle(Moment.RAISED)
        self._end(f"the application raised {type(error).__name__}")

    def _end(self, why: str) -> None:
        """Whatever is still staged will not be sent; whatever is staged from now on is refused."""
        # An inner middleware may have made a copy of the scope, and that holds us.
        self._scope, self._transactions = _OVER, None
        if self._callbacks is not None:
            self._callbacks.close()
            self._drop(why)

    def _drop(self, why: str) -> None:
        """What is staged will not be sent."""
        left = () if self._callbacks is None else self._callbacks.take_staged()
        if left and isinstance(self.operation, Operation):
            for skip in drop(self.operation, left, why):
                self._capture.observer.skipped(skip)

    def _route(self) -> Operation | None:
        """The operation, now that the router has run, or must have."""
        operation = self.operation
        if operation is UNROUTED:
            operation = self._capture.directory.find(self._scope)
        if operation is UNROUTED:
            operation = self._capture.directory.rematch(self._scope)
        self.operation = operation
        return operation if isinstance(operation, Operation) else None

    def _tapped(self) -> RequestTap:
        if self._tap is None:
            self._tap = RequestTap(self._receive, self._capture.limits.request_body)
        return self._tap
