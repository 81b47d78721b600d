"""Processes whose clocks are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from preloading import preloadable

_SOURCE: Final = Path(__file__).with_name("wrong_clock.c")


def wrong_by(offset: timedelta, *, into: Path) -> Mapping[str, str]:
    """The environment of a process whose clock is ahead by this, or behind; its monotonic clocks are right.

    Args:
        offset: Whole seconds.
        into: A folder.
    """
    library = preloadable(_SOURCE, into=into, purpose="a process's clock is set wrong")
    return {"LD_PRELOAD": str(library), "WRONG_BY": str(round(offset.total_seconds()))}
