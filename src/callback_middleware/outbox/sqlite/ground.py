"""Where a wall clock stands against the time since the machine was started, which nobody can set.

Leases end by the wall clock, because it is all that several processes and a file share. An operator who sets it back by
two hours would make a dead worker's leases last two hours more; so the file remembers how far the wall clock was ahead
of the time since boot, and leases move along when that changes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from callback_middleware.clock import SystemClock
from callback_middleware.outbox.sqlite.rows import instant
from callback_middleware.ports import Clock

STEP: Final = 1_000_000
"""Microseconds: a smaller difference is a clock that is being adjusted, slowly."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Ground:
    """A clock, and what it is compared with.

    Attributes:
        clock: The wall clock.
        boot: Tells one start of the machine from another; gives nothing where nobody knows.
        since_boot: Seconds since then, suspended or not; None where nothing tells, and the wall clock is believed.
    """

    clock: Clock
    boot: Callable[[], str]
    since_boot: Callable[[], float] | None

    @classmethod
    def of(cls, clock: Clock) -> Ground:
        """The machine's for its own clock; a clock of any other kind is its own ground."""
        if not isinstance(clock, SystemClock):
            return cls(clock, str, clock.monotonic)
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        return cls(clock, boot_id, None if boottime is None else lambda: time.clock_gettime(boottime))

    def now(self) -> int:
        """Microseconds since 1970, by the wall clock."""
        return instant(self.clock.now())

    def ahead(self, now: int) -> int:
        """Microseconds by which the wall clock is ahead of the time since boot."""
        return 0 if self.since_boot is None else now - round(self.since_boot() * 1_000_000)

    def knows(self, boot: str, ahead: int, now: int) -> bool:
        """Whether this is the same boot as far as anybody knows, and the wall clock was not set since."""
        return not self.is_later(boot) and abs(self.moved(ahead, now)) <= STEP

    def is_later(self, boot: str) -> bool:
        """Whether the machine has been started since it was this boot."""
        here = self.boot()
        return bool(boot and here) and boot != here

    def moved(self, ahead: int, now: int) -> int:
        """Microseconds by which the wall clock was set since it was so far ahead; 0 where nobody knows."""
        return 0 if self.since_boot is None else self.ahead(now) - ahead


@cache
def boot_id() -> str:
    """The kernel's name for this start of the machine; nothing where it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def has_stepped(connection: sqlite3.Connection, ground: Ground, now: int) -> bool:
    """Whether the file has never seen this boot, or the wall clock was set since it looked."""
    row = connection.execute("SELECT boot, ahead FROM clock").fetchone()
    return row is None or not ground.knows(row[0], row[1], now)


def follow(connection: sqlite3.Connection, ground: Ground, now: int) -> None:
    """End the leases of an earlier boot; move those of this one by as much as the wall clock was set.

    In a transaction that may write. Whoever held a lease before the machine was started again is no more.
    """
    row = connection.execute("SELECT boot, ahead FROM clock").fetchone()
    if row is None:
        connection.execute("INSERT INTO clock (id, boot, ahead) VALUES (1, ?, ?)", (ground.boot(), ground.ahead(now)))
        return
    boot, ahead = row
    if ground.knows(boot, ahead, now):
        return
    if ground.is_later(boot):
        connection.execute("UPDATE queue SET due_at = min(due_at, ?) WHERE leased = 1 AND ready = 0", (now,))
    else:
        moved = ground.moved(ahead, now)
        connection.execute("UPDATE queue SET due_at = due_at + ? WHERE leased = 1 AND ready = 0", (moved,))
    connection.execute("UPDATE clock SET boot = ?, ahead = ?", (ground.boot(), ground.ahead(now)))
