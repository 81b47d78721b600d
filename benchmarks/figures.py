"""What is compared runs in turns, and a figure is a ratio, printed beside what it is to reach."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Subject = TypeVar("Subject")
Result = TypeVar("Result")


def in_turns(subjects: Mapping[Subject, Callable[[], Result]], rounds: int) -> Mapping[Subject, list[Result]]:
    """Every subject once a round, each first as often as the others: the machine drifts by more than they differ."""
    results: dict[Subject, list[Result]] = {subject: [] for subject in subjects}
    order = list(subjects)
    for _ in range(rounds):
        for subject in order:
            results[subject].append(subjects[subject]())
        order.append(order.pop(0))
    return results


def ratio(rates: Sequence[float], against: Sequence[float]) -> float:
    """The median of the rounds' own ratios, so that a slow moment of the machine stays within its round."""
    return statistics.median(mine / theirs for mine, theirs in zip(rates, against, strict=True))


def at_least(value: float, target: float) -> str:
    """A ratio, what it is to reach, and whether it does not."""
    return f"{value:6.2f}   to reach: ≥ {target:.2f}{'' if value >= target else '   MISSED'}"


def at_most(value: float, target: float, unit: str = "") -> str:
    """A figure, what it must not exceed, and whether it does."""
    return f"{value:6.2f}{unit}   to reach: ≤ {target:g}{unit}{'' if value <= target else '   MISSED'}"
