"""What structured concurrency leaves out, and a library that is mounted into somebody else's program needs.

A task that belongs to no task group, an event that any thread may set without waiting, and a variable per loop;
on asyncio and on trio, which is imported only where it is already running.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel

logger = logging.getLogger("callback_middleware")

Value = TypeVar("Value")

_tasks: Final[set[asyncio.Task[None]]] = set()
"""asyncio itself holds tasks weakly: one that nobody refers to may vanish in the middle."""


def spawn(function: Callable[[], Awaitable[object]]) -> None:
    """Run a function in a task of the running event loop that belongs to no task group, until it or the loop ends.

    It starts in an empty context: what outlives a request keeps none of its variables. What it raises is logged
    and goes no further (on trio it would end the program).
    """

    async def guarded() -> None:
        try:
            await function()
        except Exception:
            logger.exception("a background task of the callback middleware failed")

    loop = _native_loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        task = loop.create_task(guarded(), context=Context())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    else:
        import trio

        trio.lowlevel.spawn_system_task(guarded)


def cancellation_requested() -> bool:
    """Whether a cancellation that is being handled was asked of this task, and did not merely escape from another."""
    if isinstance(_native_loop(), asyncio.AbstractEventLoop):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    # trio has no other: its cancellations come from scopes alone.
    return True


class Bell:
    """An event of the event loop that made it, which any thread may ring, and which can be waited for again and again.

    A ring that nobody waits for is kept, once, for whoever waits next.
    """

    def __init__(self) -> None:
        self._caller = Caller()
        self._event = anyio.Event()
        self._rung = False

    def ring(self) -> bool:
        """Wake those who wait, soon, and return at once. False if the bell's loop is over: nobody will ever hear it."""
        if self._rung:
            return True
        self._rung = True
        return self._caller.call(self._wake)

    async def wait(self) -> None:
        """Return when the bell has rung. Only in the loop that made it."""
        event = self._event
        await event.wait()
        # Of several who waited together, the first one rearms it.
        if self._event is event:
            self._event = anyio.Event()
            self._rung = False

    def _wake(self) -> None:
        self._event.set()


class LoopLocal(Generic[Value]):
    """A variable with one value per event loop. The value goes when its loop does."""

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[object, Value] = WeakKeyDictionary()

    def get(self) -> Value | None:
        """The running loop's value; None where it has none."""
        return self._values.get(_this_loop())

    def set(self, value: Value | None) -> None:
        """Give the running loop a value, or None to take it away."""
        if value is None:
            self._values.pop(_this_loop(), None)
        else:
            self._values[_this_loop()] = value


def _this_loop() -> object:
    """What :func:`_native_loop` is, found sooner where a task of asyncio's asks: that is what every request does."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return _native_loop() if task is None else task.get_loop()


def _native_loop() -> object:
    try:
        token: object = anyio.lowlevel.current_token()
    except RuntimeError:
        # In a callback of asyncio's no task is running, and anyio knows of no loop that it has not begun itself.
        return asyncio.get_running_loop()
    # anyio before 4.11 hands out the loop itself.
    return getattr(token, "native_token", token)


def _after(seconds: float, function: Callable[[], object]) -> None:
    async def wait() -> None:
        await anyio.sleep(seconds)
        function()

    spawn(wait)


class Once(Protocol):
    """Something that happens once, and that many tasks of one event loop may wait for."""

    def is_set(self) -> bool:
        """Whether it has happened."""
        ...

    def set(self) -> None:
        """It happens. Only in the loop itself."""
        ...

    def wait(self) -> Awaitable[object]:
        """Return when it happens; asked for before it has."""
        ...


class _Futures:
    """On asyncio, with one future for each who waits, where ``anyio.Event`` keeps two coroutines alive beside it."""

    __slots__ = ("_futures", "_loop", "_set")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._futures: list[asyncio.Future[None]] = []
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for future in self._futures:
            # Whoever was cancelled waits no longer.
            if not future.done():
                future.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        future = self._loop.create_future()
        self._futures.append(future)
        return future


class Caller:
    """Has functions called in the event loop that made it.

    Attributes:
        once: Makes a :class:`Once` of this loop.
    """

    once: Callable[[], Once]

    def __init__(self) -> None:
        loop = _native_loop()
        if isinstance(loop, asyncio.AbstractEventLoop):
            self.once = partial(_Futures, loop)
            self._soon: Callable[[Callable[[], object]], object] = loop.call_soon
            self._from_afar: Callable[[Callable[[], object]], object] = loop.call_soon_threadsafe
            self._later: Callable[[float, Callable[[], object]], object] = loop.call_later
            self._over: type[Exception] = RuntimeError
        else:
            import trio

            self.once = anyio.Event
            self._later = _after
            self._soon = self._from_afar = trio.lowlevel.current_trio_token().run_sync_soon
            self._over = trio.RunFinishedError

    def soon(self, function: Callable[[], object]) -> None:
        """When every task that is ready now has had its turn. Only in the loop itself."""
        self._soon(function)

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """After so many seconds, unless the loop is over by then. Only in the loop itself."""
        self._later(seconds, function)

    def call(self, function: Callable[[], object]) -> bool:
        """Soon, from any thread, without waiting. False if the loop is over: nobody will ever call it."""
        try:
            self._from_afar(function)
        except self._over:
            return False
        return True
