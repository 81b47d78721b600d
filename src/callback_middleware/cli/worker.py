"""``callback-middleware work``: an application's dispatcher in a process of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

import anyio
import click

from callback_middleware.cli.applications import application
from callback_middleware.cli.health import answering_probes
from callback_middleware.cli.outboxes import VARIABLE, masked, outbox_at
from callback_middleware.cli.refusals import Refused
from callback_middleware.cli.signals import heeding_signals
from callback_middleware.dispatcher import GRACE, Dispatcher
from callback_middleware.errors import ConfigurationError, OutboxError
from callback_middleware.middleware import CallbackMiddleware
from callback_middleware.putting import start

logger = logging.getLogger("callback_middleware")


@click.command()
@click.argument("app")
@click.option("--factory", is_flag=True, help="APP is a function that makes the application.")
@click.option(
    "--outbox",
    metavar="URL",
    envvar=VARIABLE,
    help=f"postgresql://… or sqlite:path, in place of the outbox that APP mounts.  [env: {VARIABLE}]",
)
@click.option("--schema", metavar="NAME", help="Where in that database the outbox is.  [default: callback_middleware]")
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
@click.option(
    "--health-port", type=click.IntRange(0, 65_535), help="Answer GET /live and /ready there; 0 takes any that is free."
)
@click.option("--health-host", default="127.0.0.1", show_default=True, help="The address of that port.")
@click.option("--loop", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def work(
    app: str,
    *,
    factory: bool,
    outbox: str | None,
    schema: str | None,
    concurrency: int | None,
    grace: int,
    once: bool,
    health_port: int | None,
    health_host: str,
    loop: str,
    log_level: str,
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
        with _other_outbox(middleware, outbox, schema):
            dispatcher = _dispatcher(middleware, concurrency, timedelta(seconds=grace))
            probes = _probes(dispatcher, health_host, health_port)
            run = partial(_work, middleware, served, dispatcher, app=app, grace=grace, probes=probes, once=once)
            anyio.run(run, backend=loop)
    except ConfigurationError as error:
        raise Refused(f"{app}: {error}") from None
    except OutboxError as error:
        raise click.ClickException(f"{app}: {error}") from None


def _other_outbox(middleware: CallbackMiddleware, url: str | None, schema: str | None) -> AbstractContextManager[None]:
    if url:
        return middleware.with_parts(outbox=outbox_at(url, schema, like=middleware.outbox))
    if schema is not None:
        raise Refused(
            f"--schema says where in the database of --outbox (or {VARIABLE}) the outbox is, and there is none"
        )
    return nullcontext()


def _dispatcher(middleware: CallbackMiddleware, concurrency: int | None, grace: timedelta) -> Dispatcher:
    outbox = middleware.outbox
    if not outbox.durable:
        raise ConfigurationError(
            f"{type(outbox).__name__} is not durable: its deliveries are in the memory of the web process, where no "
            "worker finds them; mount CallbackMiddleware with outbox=SQLiteOutbox('callbacks.db')"
        )
    return middleware.dispatcher(concurrency=concurrency, grace=grace)


def _probes(dispatcher: Dispatcher, host: str, port: int | None) -> AbstractAsyncContextManager[object]:
    return nullcontext() if port is None else answering_probes(host, port, lambda: dispatcher.condition)


async def _work(
    middleware: CallbackMiddleware,
    served: object,
    dispatcher: Dispatcher,
    *,
    app: str,
    grace: int,
    probes: AbstractAsyncContextManager[object],
    once: bool,
) -> None:
    # Nothing is open yet. A sender that cannot work on this event loop says so now, and not at every attempt.
    await middleware.aclose()

    told = anyio.Event()

    def stop() -> None:
        told.set()
        logger.info("stopping: attempts in flight have %d s to end; a second signal ends them now", grace)
        dispatcher.stop()

    # From before its first line: an outbox that does not answer may take a while to start.
    with heeding_signals(stop):
        async with probes:
            logger.info("worker %d delivers what %s puts in %s", os.getpid(), app, masked(repr(middleware.outbox)))
            try:
                await start(middleware.outbox)
                await _read_declarations(middleware, served)
                if not told.is_set():
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
