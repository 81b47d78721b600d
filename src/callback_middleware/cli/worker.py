"""``callback-middleware work``: an application's dispatcher in a process of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
from datetime import timedelta
from functools import partial

import anyio
import click

from callback_middleware.cli.applications import application
from callback_middleware.cli.refusals import Refused
from callback_middleware.cli.signals import heeding_signals
from callback_middleware.dispatcher import GRACE, Dispatcher
from callback_middleware.errors import ConfigurationError, OutboxError
from callback_middleware.middleware import CallbackMiddleware

logger = logging.getLogger("callback_middleware")


@click.command()
@click.argument("app")
@click.option("--factory", is_flag=True, help="APP is a function that makes the application.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), help="Attempts in flight at once.  [default: the middleware's]"
)
@click.option(
    "--grace",
    type=click.IntRange(0, 86_400),
    default=round(GRACE.total_seconds()),
    show_default=True,
    help="Seconds that attempts in flight have to end once it is told to stop.",
)
@click.option("--once", is_flag=True, help="Deliver what is due now, and exit.")
@click.option("--loop", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def work(
    app: str, *, factory: bool, concurrency: int | None, grace: int, once: bool, loop: str, log_level: str
) -> None:
    """Deliver what the web processes of APP put in its outbox.

    APP is module:attribute, as in invoices:app. It is imported for its CallbackMiddleware, whose outbox must be
    durable; its lifespan is not run. Any number of workers may share an outbox.

    SIGTERM and SIGINT (Ctrl-C) end it: it claims no more, lets the attempts in flight end, and hands the rest back.
    """
    # Before the application is imported, whose own configuration comes on top.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logger.setLevel(log_level.upper())
    if loop == "trio" and importlib.util.find_spec("trio") is None:
        raise Refused("--loop trio needs trio: pip install trio")
    served, middleware = application(app, factory=factory)
    try:
        dispatcher = _dispatcher(middleware, concurrency, timedelta(seconds=grace))
        anyio.run(partial(_work, middleware, served, dispatcher, app, grace, once=once), backend=loop)
    except ConfigurationError as error:
        raise Refused(f"{app}: {error}") from None
    except OutboxError as error:
        raise click.ClickException(f"{app}: {error}") from None


def _dispatcher(middleware: CallbackMiddleware, concurrency: int | None, grace: timedelta) -> Dispatcher:
    outbox = middleware.outbox
    if not outbox.durable:
        raise ConfigurationError(
            f"{type(outbox).__name__} is not durable: its deliveries are in the memory of the web process, where no "
            "worker finds them; mount CallbackMiddleware with outbox=SQLiteOutbox('callbacks.db')"
        )
    return middleware.dispatcher(concurrency=concurrency, grace=grace)


async def _work(
    middleware: CallbackMiddleware, served: object, dispatcher: Dispatcher, app: str, grace: int, *, once: bool
) -> None:
    # Nothing is open yet. A sender that cannot work on this event loop says so now, and not at every attempt.
    await middleware.aclose()

    def stop() -> None:
        logger.info("stopping: attempts in flight have %d s to end; a second signal ends them now", grace)
        dispatcher.stop()

    logger.info("worker %d delivers what %s puts in %r", os.getpid(), app, middleware.outbox)
    try:
        await _read_declarations(middleware, served)
        with heeding_signals(stop):
            await (dispatcher.deliver_due() if once else dispatcher.run())
    finally:
        await middleware.aclose()
    logger.info("worker %d of %s has ended", os.getpid(), app)


async def _read_declarations(middleware: CallbackMiddleware, served: object) -> None:
    """Learn what the application's callbacks declare of answers. What is due was planned, and needs none of it."""
    try:
        await middleware.prepare({"app": served})
    except ConfigurationError as error:
        logger.warning("what receivers answer is not checked: %s", error)
