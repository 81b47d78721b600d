"""What can be planned before there is a response, and what cannot: a handler's own transaction ends before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from callback_middleware.errors import PlanningError
from callback_middleware.expressions import Needs
from callback_middleware.operations import Callback
from callback_middleware.options import SUCCESS
from callback_middleware.planning.wanted import Asked, Wanted, WantedEnd, WantedNotification, WantedSubscription


def check_unanswered(staged: Iterable[Asked]) -> None:
    """Refuse what hangs on a response that has not come.

    Raises:
        PlanningError: The first one that does, by what it says of its destination, its parameters or its statuses.
    """
    for asked in staged:
        match asked:
            case Wanted() | WantedSubscription():
                _check(asked)
            case WantedNotification() | WantedEnd():
                # Of an exchange they take nothing.
                continue
            case _:
                assert_never(asked)


def _check(asked: Wanted | WantedSubscription) -> None:
    callback = asked.callback
    if callback.options.on.codes != SUCCESS.codes:
        raise PlanningError(
            f"{callback} is sent after a response that is {callback.options.on}, and commit_with puts it before there "
            "is one: leave it staged without commit_with, or take its on= away"
        )
    if any(needs.response for needs in _needs(callback, asked.params)):
        raise PlanningError(
            f"{callback} needs something of the response ($response.… or $statusCode), and commit_with puts it before "
            "there is one: leave it staged without commit_with, or let its expressions ask the request alone"
        )


def _needs(callback: Callback, given: Iterable[str]) -> Iterator[Needs]:
    """What is needed by all that is evaluated where a handler sends by hand: its body is there already."""
    yield callback.destination.needs
    yield from (template.needs for _, template in callback.headers)
    yield from (template.needs for name, template in callback.params.items() if name not in given)
