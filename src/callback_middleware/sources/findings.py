"""What looking through an application comes to: its operations, and everything that is wrong, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from callback_middleware.errors import ConfigurationError
from callback_middleware.operations import Callback, Operation, check_methods
from callback_middleware.responses import AnswerCheck


class Findings:
    """Collects errors and warnings, each with where it stands, so that nobody has to mend them one start at a time.

    Attributes:
        errors: In the order in which they were found.
        warnings: Likewise, each once.
    """

    def __init__(self) -> None:
        self.errors: list[tuple[str, ConfigurationError]] = []
        self.warnings: list[str] = []

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Keep the :class:`ConfigurationError` that the block raises, and go on after the block."""
        try:
            yield
        except ConfigurationError as error:
            self.errors.append((where, error))

    def warn(self, where: str, warning: str) -> None:
        """Say once that something at ``where`` is legal and hardly meant."""
        sentence = f"{where}: {warning}"
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def answers(self, where: str, make: Callable[[], AnswerCheck | None]) -> AnswerCheck | None:
        """What is made; None, and a warning, where that raises :class:`ConfigurationError`.

        Nothing that is sent depends on what a callback declares of answers: it stops no start.
        """
        try:
            return make()
        except ConfigurationError as error:
            self.warn(where, f"what its receiver answers is not checked: {error}")
            return None

    def operation(
        self, method: str, path: str, callbacks: Sequence[Callback], *, handler_sends: bool | None
    ) -> Operation | None:
        """The operation that has these callbacks; None if there are none. Its callbacks' warnings are taken over."""
        if not callbacks:
            return None
        operation = Operation(method, path, tuple(callbacks), handler_sends)
        for callback in callbacks:
            for warning in callback.warnings:
                self.warn(f"{operation} → {callback.name}", warning)
        contradiction = check_methods(callbacks)
        if contradiction is not None:
            self.errors.append((str(operation), contradiction))
        return operation
