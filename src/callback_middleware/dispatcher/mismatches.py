"""How an answer that accepts a delivery differs from what its callback declares: told, and nothing more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from callback_middleware.delivery import Delivery
from callback_middleware.outcomes import Accepted, Answer, Outcome
from callback_middleware.responses import AnswerCheck

logger = logging.getLogger("callback_middleware")

AnswerChecks: TypeAlias = Callable[[Delivery], AnswerCheck | None]
"""Knows what the callback of a delivery declares of its receiver's answer; None where nothing is declared, or known."""


class Mismatches:
    """Asks what is declared. A check that raises is told once, and finds nothing.

    Args:
        checks: Knows what is declared; None where nobody does.
    """

    def __init__(self, checks: AnswerChecks | None = None) -> None:
        self._checks = checks
        self._broken: set[tuple[str, str, str]] = set()

    def find(self, delivery: Delivery, outcome: Outcome) -> str:
        """How an answer that accepts differs, in a sentence; empty where it does not, and for every other outcome."""
        if self._checks is None or not isinstance(outcome, Accepted):
            return ""
        answer = outcome.answer
        try:
            check = self._checks(delivery)
            if check is None:
                return ""
            return check(answer.status, answer.header("content-type"), _known_body(delivery, answer)) or ""
        except Exception as error:  # noqa: BLE001 - what a model's own validators raise is the application's
            self._tell(delivery, error)
            return ""

    def _tell(self, delivery: Delivery, error: Exception) -> None:
        callback = (delivery.operation, delivery.callback, delivery.method)
        if callback in self._broken:
            return
        self._broken.add(callback)
        # What the error says may hold what the receiver said.
        traceback = error if logger.isEnabledFor(logging.DEBUG) else None
        logger.error(
            "what receivers answer to %s of %s is not checked: the check raised %s",
            *(delivery.callback, delivery.operation, type(error).__name__),
            exc_info=traceback,
        )


def _known_body(delivery: Delivery, answer: Answer) -> bytes | None:
    """The whole of an answer's body; None where that was not read, or only a decoder could say what it is."""
    encoding = answer.header("content-encoding") or "identity"
    if delivery.method == "HEAD" or answer.truncated or encoding.strip().lower() != "identity":
        return None
    return answer.body
