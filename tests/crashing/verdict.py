"""What was promised, what became of it, and what of that must not be: pure, so that every fault can be made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from uuid import UUID

from callback_middleware import Attempt, Delivery
from callback_middleware.outcomes import Accepted


@dataclass(frozen=True, slots=True)
class Reception:
    """One callback, as a receiver heard it.

    Attributes:
        delivery: Its ``webhook-id``.
        request: The request that caused it, as its body says.
    """

    delivery: UUID
    request: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A delivery as the outbox has it in the end.

    Attributes:
        request: The request that caused it, as its body says.
        attempts: All of them, late ones included.
    """

    request: str
    delivery: Delivery
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A terminal result that the outbox said it has taken."""

    delivery: UUID
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known after the last process has drained the outbox.

    Attributes:
        acknowledged: The requests whose whole 2xx response a client has read.
        received: Every callback that came.
        stored: Everything that the outbox has.
        results: Every terminal result that was applied.
        interrupted: The delivery of every attempt that was in flight when its process was killed.
        stale: The delivery of every settlement that was applied although another worker had claimed since.
        outlived: The delivery of every attempt that was accepted when its lease had ended, because its process stalled.
    """

    acknowledged: Collection[str]
    received: Sequence[Reception]
    stored: Sequence[Stored]
    results: Sequence[Result] = ()
    interrupted: Sequence[UUID] = ()
    stale: Sequence[UUID] = ()
    outlived: Sequence[UUID] = ()

    @property
    def duplicates(self) -> int:
        """Callbacks that came once more under an id that had come before."""
        return len(self.received) - len({reception.delivery for reception in self.received})


@dataclass(frozen=True, slots=True)
class Faults:
    """What must not be; nothing of it is there where every promise was kept.

    Attributes:
        missing: Requests that were acknowledged, and of which the outbox has no delivery.
        never_received: Requests that were acknowledged, and of which no receiver ever heard.
        doubled: Requests that asked for one callback, and of which the outbox has several.
        unstored: Deliveries that were sent, and that the outbox does not have.
        unsettled: Deliveries that are neither delivered, dead nor cancelled after everything was drained.
        two_results: Deliveries of which one run had two terminal results.
        overruled: Deliveries that one worker settled while they were another's.
        unexplained: Deliveries that came more often than attempts of theirs failed, were interrupted or outlived their
            lease.
    """

    missing: frozenset[str] = frozenset()
    never_received: frozenset[str] = frozenset()
    doubled: frozenset[str] = frozenset()
    unstored: frozenset[UUID] = frozenset()
    unsettled: frozenset[UUID] = frozenset()
    two_results: frozenset[UUID] = frozenset()
    overruled: frozenset[UUID] = frozenset()
    unexplained: frozenset[UUID] = frozenset()

    def __bool__(self) -> bool:
        return any(found for _, found in self._each())

    def __str__(self) -> str:
        listed = [f"{len(found)} {name} ({', '.join(sorted(map(str, found))[:3])} …)" for name, found in self._each()]
        return "; ".join(listed) or "no faults"

    def _each(self) -> Iterator[tuple[str, frozenset[object]]]:
        for one in fields(self):
            found: frozenset[object] = getattr(self, one.name)
            if found:
                yield one.name.replace("_", " "), found


def judge(evidence: Evidence) -> Faults:
    """Find everything that must not be."""
    acknowledged = frozenset(evidence.acknowledged)
    stored = Counter(one.request for one in evidence.stored)
    known = {one.delivery.id for one in evidence.stored}
    return Faults(
        missing=acknowledged - stored.keys(),
        never_received=acknowledged - {reception.request for reception in evidence.received},
        doubled=frozenset(request for request, count in stored.items() if count > 1),
        unstored=frozenset(reception.delivery for reception in evidence.received) - known,
        unsettled=frozenset(one.delivery.id for one in evidence.stored if not one.delivery.state.terminal),
        two_results=_applied_twice(evidence.results)
        | frozenset(one.delivery.id for one in evidence.stored if _went_on(one.attempts)),
        overruled=frozenset(evidence.stale),
        unexplained=_unexplained(evidence),
    )


def _applied_twice(results: Sequence[Result]) -> frozenset[UUID]:
    return frozenset(result.delivery for result, count in Counter(results).items() if count > 1)


def _went_on(attempts: Sequence[Attempt]) -> bool:
    """Whether a run went on after an attempt that ended it, though nobody lived to tell of its result.

    Late attempts have the number of the one that took their place; only a result that was applied raises it.
    """
    accepted = {(attempt.run, attempt.number) for attempt in attempts if isinstance(attempt.outcome, Accepted)}
    return len(accepted) > len({run for run, _ in accepted})


def _unexplained(evidence: Evidence) -> frozenset[UUID]:
    received = Counter(reception.delivery for reception in evidence.received)
    excused = Counter(evidence.interrupted) + Counter(evidence.outlived)
    failed: Mapping[UUID, int] = {
        one.delivery.id: sum(not isinstance(attempt.outcome, Accepted) for attempt in one.attempts)
        for one in evidence.stored
    }
    return frozenset(
        delivery for delivery, count in received.items() if count > 1 + excused[delivery] + failed.get(delivery, 0)
    )
