"""What services write down as it happens, so that it can be read when they are dead."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from crashing.verdict import Result

_END = "."


class Entry(NamedTuple):
    """One event.

    Attributes:
        at: Seconds of the machine's monotonic clock.
        process: Whose.
        what: ``claimed``, ``began`` and ``ended`` of an attempt; ``settling`` before and ``applied`` or ``late`` after
            a settlement, and ``result`` of one that was terminal; ``struck`` of a process that is about to kill or
            stop itself.
        subject: The delivery's id; of ``struck`` the process.
        number: Of ``result`` the run; of ``ended`` 1 for an attempt that was accepted; of ``struck`` the requests in
            flight.
    """

    at: float
    process: int
    what: str
    subject: str
    number: int = 0


class Journal:
    """A file that several processes append to. What was written is there, however its process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Entry] = []
        self._read_until = 0
        # Appended by one system call each, which no other process's comes between.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        os.close(self._descriptor)

    def write(self, what: str, *subjects: object, number: int = 0, at: float | None = None) -> None:
        """Note the same of each of these, now or at another time."""
        begin = f"\n{time.monotonic() if at is None else at} {os.getpid()} {what}"
        # A kill may cut a line in two: each begins on a line of its own, and only one that has its end counts.
        os.write(self._descriptor, "".join(f"{begin} {subject} {number} {_END}" for subject in subjects).encode())

    def read(self) -> Sequence[Entry]:
        """Everything so far, in order."""
        with self.path.open("rb") as file:
            file.seek(self._read_until)
            lines, newline, last = file.read().rpartition(b"\n")
        # What stands before a line's beginning does not change any more.
        self._entries += _entries(lines)
        self._read_until += len(lines) + len(newline)
        return [*self._entries, *_entries(last)]


def _entries(lines: bytes) -> Iterator[Entry]:
    for line in lines.decode().splitlines():
        words = line.split(" ")
        if words[-1] == _END:
            at, process, what, subject, number, _ = words
            yield Entry(float(at), int(process), what, subject, int(number))


class Flights:
    """How many attempts a process has in flight, as the journal grows."""

    def __init__(self, journal: Journal, process: int) -> None:
        self._journal = journal
        self._process = process
        self._seen = 0
        self._count = 0

    def count(self) -> int:
        entries = self._journal.read()
        for entry in entries[self._seen :]:
            if entry.process == self._process and entry.what in ("began", "ended"):
                self._count += 1 if entry.what == "began" else -1
        self._seen = len(entries)
        return self._count


def in_flight(entries: Sequence[Entry], process: int | None = None) -> Sequence[UUID]:
    """The deliveries whose attempts a process has begun and not ended, each as often as that is so.

    Args:
        entries: Everything so far.
        process: Which one; None for all of them.
    """
    flights: Counter[str] = Counter()
    for entry in entries:
        if process in (None, entry.process) and entry.what in ("began", "ended"):
            flights[entry.subject] += 1 if entry.what == "began" else -1
    return [UUID(subject) for subject in flights.elements()]


def outlived(entries: Sequence[Entry], lease: timedelta) -> Sequence[UUID]:
    """The deliveries of attempts that were accepted when their lease had ended: another may have made them too."""
    claimed: dict[tuple[int, str], float] = {}
    found: list[UUID] = []
    for entry in entries:
        key = entry.process, entry.subject
        if entry.what == "claimed":
            claimed[key] = entry.at
        elif entry.what == "ended" and entry.number and entry.at - claimed[key] >= lease.total_seconds():
            found.append(UUID(entry.subject))
    return found


def waits(
    entries: Sequence[Entry], due: Mapping[UUID, float], ended: Mapping[UUID, float] | None = None
) -> Mapping[UUID, float]:
    """How long each of these deliveries was left alone at the longest, in seconds.

    That is until it was claimed first, and from each claim of it to the next one, or to its result.

    Args:
        entries: All of them.
        due: From when on each might have been claimed, in seconds of the machine's monotonic clock.
        ended: When the outbox took their results, likewise; without it, when that was written down, which is later
            where a process has stalled in between.
    """
    moments = {str(delivery): [at] for delivery, at in due.items()}
    for delivery, at in (ended or {}).items():
        if str(delivery) in moments:
            moments[str(delivery)].append(at)
    told = ("claimed", "result") if ended is None else ("claimed",)
    for entry in entries:
        if entry.what in told and entry.subject in moments:
            moments[entry.subject].append(entry.at)
    # One that stalls writes its claim down late.
    return {
        UUID(delivery): max((then - before for before, then in pairwise(sorted(of_delivery))), default=0.0)
        for delivery, of_delivery in moments.items()
    }


def stale(entries: Sequence[Entry]) -> Sequence[UUID]:
    """The deliveries that a settlement has changed although another process had claimed them since."""
    # Of each delivery the last claim of each process: its place here, and when it was asked for. One that stalls writes
    # its claim down late: only what is later by both is later.
    claims: dict[str, dict[int, tuple[int, float]]] = defaultdict(dict)
    overtaken: set[tuple[int, str]] = set()
    found: list[UUID] = []
    for place, entry in enumerate(entries):
        key = entry.process, entry.subject
        if entry.what == "claimed":
            claims[entry.subject][entry.process] = place, entry.at
            overtaken.discard(key)
        elif entry.what == "settling":
            known = claims[entry.subject]
            own_place, own_at = known[entry.process]
            if any(place > own_place and at > own_at for place, at in known.values()):
                overtaken.add(key)
        elif entry.what == "applied" and key in overtaken:
            found.append(UUID(entry.subject))
    return found


def results(entries: Sequence[Entry]) -> Sequence[Result]:
    """Every terminal result that was applied."""
    return [Result(UUID(entry.subject), entry.number) for entry in entries if entry.what == "result"]
