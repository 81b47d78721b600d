"""What callbacks declare of their receivers' answers, found for a delivery, which is only data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from callback_middleware.delivery import Delivery
from callback_middleware.operations import Operation
from callback_middleware.responses import AnswerCheck, any_of


class _Key(NamedTuple):
    operation: str
    callback: str
    method: str


class DeclaredAnswers:
    """Called with a delivery, it gives the check of that delivery's callback; None where nothing is declared, or known.

    Where an operation documents several callbacks of one name and method, at several expressions, a delivery does not
    tell which it is of: an answer that fits any of them fits.

    Args:
        operations: Its operations as they are known now; routes may be added later.
    """

    def __init__(self, operations: Callable[[], Sequence[Operation]]) -> None:
        self._operations = operations
        self._known: dict[_Key, AnswerCheck | None] = {}

    def __call__(self, delivery: Delivery) -> AnswerCheck | None:
        key = _Key(delivery.operation, delivery.callback, delivery.method)
        if key not in self._known:
            found = self._find(key)
            if not found:
                return None
            checks = [check for check in found if check is not None]
            self._known[key] = any_of(checks) if len(checks) == len(found) else None
        return self._known[key]

    def _find(self, key: _Key) -> Sequence[AnswerCheck | None]:
        return [
            callback.answers
            for operation in self._operations()
            if str(operation) == key.operation
            for callback in operation.callbacks
            if callback.name == key.callback and callback.method == key.method
        ]
