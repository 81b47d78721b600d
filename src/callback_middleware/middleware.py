"""Mounting: composes the two halves, finds what the application documents, and owns the life-cycle."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import uuid4

import anyio
import anyio.to_thread

from callback_middleware.asgi import ASGIApp, Receive, Scope, Send
from callback_middleware.capture import Capture
from callback_middleware.clock import SystemClock
from callback_middleware.delivery import DEADLINE
from callback_middleware.dispatcher import GRACE, Dispatcher
from callback_middleware.dispatcher.background import Background
from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError
from callback_middleware.identifiers import uuid7
from callback_middleware.instrumentation.logs import LoggingObserver
from callback_middleware.instrumentation.observers import Observers
from callback_middleware.isolation import ReceiverLimits
from callback_middleware.lifespan import serve_lifespan
from callback_middleware.outbox.memory import MemoryOutbox
from callback_middleware.ports import Batch, Clock, Observer, Outbox, Sender, Signer
from callback_middleware.putting import PUT_TIMEOUT, put, start
from callback_middleware.recording import CaptureLimits
from callback_middleware.responder import respond
from callback_middleware.retry import RetryPolicy
from callback_middleware.senders.httpx import HttpxSender
from callback_middleware.sources.discovery import Directory, announce, discover
from callback_middleware.sources.wrappers import routed
from callback_middleware.staging import SCOPE_KEY, Callbacks, Catalogue, DeclaredAnswers

logger = logging.getLogger("callback_middleware")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one middleware is composed of: every seam an object."""

    outbox: Outbox
    sender: Sender
    signer: Signer | None
    egress: EgressPolicy
    retry: RetryPolicy
    limits: CaptureLimits
    observer: Observer
    clock: Clock
    dispatch: bool
    concurrency: int
    receivers: ReceiverLimits
    respond: bool
    joins: bool = True


class CallbackMiddleware:
    """ASGI middleware that sends the callbacks which the matched operation documents.

    ``app.add_middleware(CallbackMiddleware)`` on FastAPI and Starlette; ``CallbackMiddleware(app, openapi=document)``
    around any other ASGI application. Several may live in one process; where two wrap one application, the
    innermost owns the request.

    Args:
        app: The application, or the next middleware.
        outbox: Where deliveries wait; default a :class:`MemoryOutbox`, which keeps nothing beyond the process.
        sender: Makes the HTTP attempts; default an ``HttpxSender``.
        signer: Signs them; default none, which the log says once.
        egress: Where callbacks may go; default ``https`` to global addresses.
        retry: When a failed attempt is followed by another; default the Standard Webhooks schedule.
        limits: How much is kept of bodies, for expressions that need it.
        openapi: An OpenAPI 3.0, 3.1 or 3.2 document: a mapping, or the path of a JSON or YAML file.
        dispatch: Whether this process sends what it put; False where a worker does.
        concurrency: Attempts in flight at once.
        receivers: How much one receiver may cost: of these attempts, failures in a row, a rate.
        on_outbox_failure: ``"respond"`` turns a success whose callback could not be stored into a 503 (a 409 where
            another owner has subscribed the key), and refuses requests that document callbacks while the outbox is
            known to be down; ``"log"`` forwards everything and tells the log alone.
        observer: Told what happens, beside the log.
        clock: Says what time it is.
        strict: Refuse every spelling of an expression outside the specification's grammar.
        enabled: False passes every message through and sends nothing.

    Raises:
        ConfigurationError: At once for an argument that makes no sense; at start-up, all in one, for what is wrong
            with the application's callbacks (on the first request where the server serves no lifespan).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        outbox: Outbox | None = None,
        sender: Sender | None = None,
        signer: Signer | None = None,
        egress: EgressPolicy | None = None,
        retry: RetryPolicy | None = None,
        limits: CaptureLimits | None = None,
        openapi: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        dispatch: bool = True,
        concurrency: int = 64,
        receivers: ReceiverLimits | None = None,
        on_outbox_failure: Literal["respond", "log"] = "respond",
        observer: Observer | None = None,
        clock: Clock | None = None,
        strict: bool = False,
        enabled: bool = True,
    ) -> None:
        if on_outbox_failure not in ("respond", "log"):
            raise ConfigurationError(f"on_outbox_failure={on_outbox_failure!r} must be 'respond' or 'log'")
        if concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency!r} must be at least 1")
        self.app = app
        self._openapi = openapi
        self._strict = strict
        self._enabled = enabled
        clock = clock or SystemClock()
        self._parts = Parts(
            outbox=outbox or MemoryOutbox(clock=clock),
            sender=sender or HttpxSender(),
            signer=signer,
            egress=egress or EgressPolicy(),
            retry=retry or RetryPolicy(),
            limits=limits or CaptureLimits(),
            observer=Observers(LoggingObserver(), *(() if observer is None else (observer,))),
            clock=clock,
            dispatch=dispatch,
            concurrency=concurrency,
            receivers=receivers or ReceiverLimits(),
            respond=on_outbox_failure == "respond",
        )
        self._capture: Capture | None = None
        self._directory: Directory | ConfigurationError | None = None
        #: What the callbacks of deliveries declare of their receivers' answers, as soon as they are compiled.
        self.answers = DeclaredAnswers(
            lambda: self._directory.operations if isinstance(self._directory, Directory) else ()
        )
        self._discovering = threading.Lock()
        self._background = Background(self.dispatcher)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if not self._enabled:
            if kind == "http":
                scope.setdefault(SCOPE_KEY, _DISABLED)
            await self.app(scope, receive, send)
        elif kind == "http":
            capture = self._capture
            if capture is None:
                await self.prepare(scope)
                await start(self._parts.outbox)
                capture = self._composed()
            await respond(capture, self.app, scope, receive, send)
        elif kind == "lifespan":
            await serve_lifespan(self, self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def prepare(self, scope: Scope) -> None:
        """Compile what the application documents, once. Raises :class:`ConfigurationError` with all that is wrong."""
        if self._directory is None:
            # In a thread: it may read a file. Under a lock: several loops may serve their first request at once.
            await anyio.to_thread.run_sync(self._discover, scope.get("app"))
        if isinstance(self._directory, ConfigurationError):
            raise self._directory.with_traceback(None)

    async def open(self) -> None:
        """Try the outbox: what is wrong with it is for the log of a start, and not for the first client to find.

        Raises :class:`ConfigurationError` for what will not mend by itself.
        """
        outbox = self._parts.outbox
        try:
            await start(outbox)
            await put(outbox, Batch())
        except ConfigurationError:
            raise
        except Exception:
            # An outbox that knows itself to be down has said so.
            if outbox.outage is None:
                logger.exception("callbacks cannot be stored")
        # It is started: the first request need not.
        self._composed()

    @property
    def outbox(self) -> Outbox:
        """Where its deliveries wait."""
        return self._parts.outbox

    def dispatcher(self, *, concurrency: int | None = None, grace: timedelta = GRACE) -> Dispatcher:
        """A new dispatcher with this middleware's parts, whether or not it dispatches itself; its caller runs it.

        Args:
            concurrency: Attempts in flight at once; default the middleware's.
            grace: How long attempts in flight may go on once it is stopping.

        Raises:
            ConfigurationError: A limit that makes no sense; or ``enabled=False``, which sends nothing.
        """
        if not self._enabled:
            raise ConfigurationError("enabled=False: this CallbackMiddleware sends nothing, and has no dispatcher")
        parts = self._parts
        return Dispatcher(
            parts.outbox,
            parts.sender,
            signer=parts.signer,
            egress=parts.egress,
            clock=parts.clock,
            observer=parts.observer,
            concurrency=parts.concurrency if concurrency is None else concurrency,
            receivers=parts.receivers,
            grace=grace,
            answers=self.answers,
        )

    def start(self) -> None:
        """Send what is due, on the running event loop, unless that happens already. Also called after every put."""
        if self._parts.dispatch:
            self._background.start()

    async def stop(self) -> None:
        """Let attempts in flight end, within the grace period, and hand the rest back to the outbox."""
        await self._background.stop()

    async def aclose(self) -> None:
        """Close what sender and outbox hold open."""
        await self._parts.sender.aclose()
        await self._parts.outbox.aclose()

    @contextmanager
    def with_parts(self, **changes: Any) -> Iterator[None]:
        """Work with other parts for a while, as ``callback_middleware.testing.capture`` does."""
        before = self._parts, self._capture
        self._parts, self._capture = replace(self._parts, **changes), None
        try:
            yield
        finally:
            self._parts, self._capture = before

    def _discover(self, host: object) -> None:
        with self._discovering:
            if self._directory is not None:
                return
            try:
                # What lies further in is looked at first: in a mounted application the scope's app is its host. Only
                # where a wrapper hides what it wraps is there nothing but the scope to go by.
                inner = self.app if routed(self.app) is not None or host is None else host
                directory = discover(inner, self._openapi, strict=self._strict)
            except ConfigurationError as error:
                self._directory = error
                return
            self._directory = directory
            announce(directory)

    def _composed(self) -> Capture:
        capture = self._capture
        if capture is None:
            if not isinstance(self._directory, Directory):
                raise ConfigurationError("a request came before the application's callbacks were compiled")
            parts, directory = self._parts, self._directory
            capture = self._capture = Capture(
                directory=directory,
                catalogue=Catalogue(lambda: directory.operations),
                outbox=parts.outbox,
                egress=parts.egress,
                retry=parts.retry,
                deadline=DEADLINE,
                limits=parts.limits,
                observer=parts.observer,
                clock=parts.clock,
                new_id=lambda: uuid7(parts.clock.now(), os.urandom(10)),
                put_timeout=PUT_TIMEOUT,
                respond=parts.respond,
                joins=parts.joins,
                on_put=self.start,
            )
        return capture


class _Disabled:
    """Owns the callbacks of requests that a disabled middleware sees: handlers may send, and nothing comes of it."""

    def callbacks(self, scope: Scope) -> Callbacks:  # noqa: ARG002 - the shape of an owner
        return Callbacks(None, new_id=uuid4, enabled=False)


_DISABLED: Final = _Disabled()
