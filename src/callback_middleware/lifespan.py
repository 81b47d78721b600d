"""The lifespan protocol, wrapped around the application's own; where that has none, in its place.

Start-up is ours before it is the application's: what is wrong with its callbacks must stop the server, and servers
take an exception for "no lifespan here" and serve on. On shutdown deliveries in flight end before the application
hears of it, because it closes what a payload or an observer may use.
"""

from __future__ import annotations

import logging
from typing import Protocol

from callback_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from callback_middleware.errors import ConfigurationError

logger = logging.getLogger("callback_middleware")


class Service(Protocol):
    """What lives as long as the application does."""

    async def prepare(self, scope: Scope) -> None:
        """Compile what the application documents. Raises :class:`ConfigurationError`."""
        ...

    async def open(self) -> None:
        """Try what it will need. Raises :class:`ConfigurationError` for what will not mend by itself, and no more."""
        ...

    def start(self) -> None:
        """The application is up."""
        ...

    async def stop(self) -> None:
        """The application is about to go down: let what is in flight end."""
        ...

    async def aclose(self) -> None:
        """The application is down: give everything back."""
        ...


async def serve_lifespan(service: Service, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ``lifespan`` scope."""
    startup = await receive()
    try:
        await service.prepare(scope)
        await service.open()
    except ConfigurationError as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence helps the developer; our own frames would not
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        await service.aclose()
        return
    session = _Session(service, startup, receive, send)
    try:
        await app(scope, session.receive, session.send)
    except Exception as error:
        if session.answered:
            raise
        logger.debug("the application serves no lifespan (%r): the middleware does", error)
    else:
        if not session.answered:
            logger.debug("the application serves no lifespan: the middleware does")
    finally:
        if session.answered:
            await service.aclose()
    if not session.answered:
        await session.take_over()
        await service.aclose()


class _Session:
    """Both directions of one lifespan scope."""

    def __init__(self, service: Service, startup: Message, receive: Receive, send: Send) -> None:
        self._service = service
        self._startup: Message | None = startup
        self._receive = receive
        self._send = send
        self.answered = False

    async def receive(self) -> Message:
        startup, self._startup = self._startup, None
        if startup is not None:
            return startup
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._service.stop()
        return message

    async def send(self, message: Message) -> None:
        self.answered = True
        if message["type"] == "lifespan.startup.complete":
            self._service.start()
        await self._send(message)

    async def take_over(self) -> None:
        """Answer the server ourselves, from whatever point the application left it at."""
        self._service.start()
        await self._send({"type": "lifespan.startup.complete"})
        while (await self.receive())["type"] != "lifespan.shutdown":
            pass
        await self._send({"type": "lifespan.shutdown.complete"})
