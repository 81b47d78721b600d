"""How one service process is set up: told through its environment, because it is started from nothing."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

CROWD: Final = 16
"""Fewer requests than these are never in flight when something is killed."""

_VARIABLE: Final = "CRASHING"


class Moment(enum.StrEnum):
    """Where a process kills itself."""

    BEFORE_PUT = "before the put"
    INSERTING = "in the middle of the statement"
    COMMITTING = "while the commit runs"
    COMMITTED = "committed, and nobody told"
    TOLD = "told, and the last byte not sent"
    ANSWERED = "the last byte handed to the server"
    CLAIMED = "claimed, and not attempted"
    HEARD = "the receiver has answered, and nothing is handed on"
    SETTLING = "settled in memory alone"
    SETTLED = "settled, and nobody told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One service process.

    Attributes:
        journal: Path of the file that it writes down what happens in.
        outbox: Path of the outbox's file; None for one in memory.
        dispatch: Whether it sends what it puts.
        delay: Seconds after which what it puts is due.
        answers_first: Whether it makes the mistake of putting only when the response is complete.
        moment: Where it kills itself; None for nowhere.
        passage: It dies when it passes that moment for this time, from 1, or the first time after that with a crowd.
        crowd: So many requests it must have in flight there; 0 for a worker.
        stalls: Whether it stops there instead, until somebody lets it go on.
        environment: What else it finds in its environment.
    """

    journal: str
    outbox: str | None
    dispatch: bool = True
    delay: float = 0
    answers_first: bool = False
    moment: Moment | None = None
    passage: int = 1
    crowd: int = CROWD
    stalls: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls) -> Settings:
        given = json.loads(os.environ[_VARIABLE])
        return cls(**given | {"moment": given["moment"] and Moment(given["moment"])})

    def to_environment(self) -> Mapping[str, str]:
        return os.environ | self.environment | {_VARIABLE: json.dumps(asdict(self)), "PYTHONUNBUFFERED": "1"}
