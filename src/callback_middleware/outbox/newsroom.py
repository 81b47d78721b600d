"""Who waits for something to be due, event loop by event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from callback_middleware.eventloop import Bell, LoopLocal

NEVER: Final = 2**63 - 1
"""An instant after all others."""


@dataclass(slots=True, eq=False)
class _Room:
    """Where one event loop waits; ``until`` is when it stops by itself."""

    bell: Bell
    until: int = NEVER
    waiting: int = 0


class Newsroom:
    """Rings in every event loop that waits longer than the news: from any thread, once, however often it is told."""

    def __init__(self) -> None:
        self._local: LoopLocal[_Room] = LoopLocal()
        self._rooms: tuple[_Room, ...] = ()
        # Held for the moment of coming and going alone.
        self._lock = threading.Lock()

    def followed(self) -> bool:
        """Whether anybody has waited, and may again."""
        return bool(self._rooms)

    def awaited(self) -> bool:
        """Whether anybody waits."""
        return any(room.waiting for room in self._rooms)

    def tell(self, due: int) -> None:
        """Something is due at this instant that was not before."""
        for room in self._rooms:
            if due < room.until and not room.bell.ring():
                self._leave(room)

    def tell_all(self) -> None:
        """Anything may have changed."""
        self.tell(-1)

    async def wait(self, seconds: float, until: int, *, begun: Callable[[], object]) -> None:
        """Return after so many seconds, which is at the instant ``until`` or before; earlier if there is news.

        Where nobody has waited before it returns at once: nobody knows what was missed. ``begun`` is called as soon as
        :meth:`awaited` says so.
        """
        room = self._local.get()
        if room is None:
            room = _Room(Bell())
            self._local.set(room)
            room.bell.ring()
            with self._lock:
                self._rooms = (*self._rooms, room)
        room.until = until
        room.waiting += 1
        try:
            begun()
            with anyio.move_on_after(max(seconds, 0)):
                await room.bell.wait()
        finally:
            room.waiting -= 1
            # Whatever comes due while nobody waits is news for the next wait: it does not know of it otherwise.
            room.until = NEVER

    def _leave(self, room: _Room) -> None:
        with self._lock:
            self._rooms = tuple(one for one in self._rooms if one is not room)
