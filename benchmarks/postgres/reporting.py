"""Rates beside each other."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.figures import at_least, ratio


def beside(rates: Mapping[str, Sequence[float]], ours: str, others: Mapping[str, float | None]) -> None:
    """Print our rate, and each other one with what ours is of it.

    Args:
        rates: Deliveries a second, round by round.
        ours: Whose.
        others: What ours is to reach of each; None for nothing.
    """
    print(f"  {ours:36}{statistics.median(rates[ours]):9,.0f}/s")
    for name, target in others.items():
        share = ratio(rates[ours], rates[name])
        told = f"{share:6.2f}" if target is None else at_least(share, target)
        print(f"  {name:36}{statistics.median(rates[name]):9,.0f}/s  ours/this {told}", flush=True)
