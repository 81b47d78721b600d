"""Outcomes of attempts as columns, and back. Of an answer's body its beginning is kept: what operators look at."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final, assert_never

from callback_middleware.outcomes import Accepted, Answer, Blocked, Outcome, Phase, Rejected, TimedOut, Unreachable

KEPT_OF_A_BODY: Final = 1024
"""Bytes."""

# In ASCII, which holds even what is half a character: whatever a receiver says, its attempt is kept.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def outcome_columns(outcome: Outcome) -> tuple[str, int | None, str | None, bytes | None]:
    """Its kind; an answer's status; as JSON what else it says; and the beginning of an answer's body."""
    match outcome:
        case Accepted(answer) | Rejected(answer):
            kind = "accepted" if isinstance(outcome, Accepted) else "rejected"
            shown: dict[str, Any] = {}
            if answer.headers:
                shown["headers"] = list(answer.headers)
            if answer.truncated or len(answer.body) > KEPT_OF_A_BODY:
                shown["truncated"] = True
            return kind, answer.status, _text(shown), answer.body[:KEPT_OF_A_BODY]
        case Unreachable(phase, detail):
            return "unreachable", None, _text({"phase": phase, "detail": detail}), None
        case TimedOut(phase):
            return "timed out", None, _text({"phase": phase}), None
        case Blocked(rule, how_to_allow):
            return "blocked", None, _text({"rule": rule, "how_to_allow": how_to_allow}), None
        case _:
            assert_never(outcome)


def outcome_of(kind: str, status: int | None, detail: str | None, body: bytes | None) -> Outcome:
    """What :func:`outcome_columns` wrote."""
    shown = {} if detail is None else json.loads(detail)
    match kind:
        case "unreachable":
            return Unreachable(Phase(shown["phase"]), shown["detail"])
        case "timed out":
            return TimedOut(Phase(shown["phase"]))
        case "blocked":
            return Blocked(shown["rule"], shown["how_to_allow"])
        case _:
            headers = tuple((name, value) for name, value in shown.get("headers", ()))
            answer = replace(Answer(status or 0, headers, body or b""), truncated=shown.get("truncated", False))
            return Accepted(answer) if kind == "accepted" else Rejected(answer)


def _text(shown: dict[str, Any]) -> str | None:
    return _encode(shown) if shown else None
