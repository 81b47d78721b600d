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
        boot: Tells one start of the machine from another; empty where nothing does.
        since_boot: Seconds since then, suspended or not; None where nothing tells, and the wall clock is believed.
    """

    clock: Clock
    boot: str
    since_boot: Callable[[], float] | None

    @classmethod
    def of(cls, clock: Clock) -> Ground:
        """The machine's for its own clock; a clock of any other kind is its own ground."""
        if not isinstance(clock, SystemClock):
            return cls(clock, "", clock.monotonic)
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        if boottime is None or not _BOOT_ID.exists():
            return cls(clock, "", None)
        return cls(clock, _BOOT_ID.read_text().strip(), lambda: time.clock_gettime(boottime))

    def now(self) -> int:
        """Microseconds since 1970, by the wall clock."""
        return instant(self.clock.now())

    def ahead(self, now: int) -> int:
        """Microseconds by which the wall clock is ahead of the time since boot."""
        return 0 if self.since_boot is None else now - round(self.since_boot() * 1_000_000)


def has_stepped(connection: sqlite3.Connection, ground: Ground, now: int) -> bool:
    """Whether the file has never seen this boot, or the wall clock was set since it looked."""
    row = connection.execute("SELECT boot, ahead FROM clock").fetchone()
    return row is None or row[0] != ground.boot or abs(ground.ahead(now) - row[1]) > STEP


def follow(connection: sqlite3.Connection, ground: Ground, now: int) -> None:
    """End the leases of an earlier boot; move those of this one by as much as the wall clock was set.

    In a transaction that may write. Whoever held a lease before the machine was started again is no more.
    """
    ahead = ground.ahead(now)
    row = connection.execute("SELECT boot, ahead FROM clock").fetchone()
    if row is None:
        connection.execute("INSERT INTO clock (id, boot, ahead) VALUES (1, ?, ?)", (ground.boot, ahead))
        return
    boot, before = row
    if boot != ground.boot:
        connection.execute("UPDATE queue SET due_at = min(due_at, ?) WHERE leased = 1 AND ready = 0", (now,))
    elif abs(ahead - before) > STEP:
        connection.execute("UPDATE queue SET due_at = due_at + ? WHERE leased = 1 AND ready = 0", (ahead - before,))
    else:
        return
    connection.execute("UPDATE clock SET boot = ?, ahead = ?", (ground.boot, ahead))
