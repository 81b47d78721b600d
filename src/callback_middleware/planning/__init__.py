"""From an exchange and what was staged in it to plans: what should be put, before any of it is durable.

Pure: the same exchange plans the same. Everything that comes to nothing has a :class:`Skip` with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never
from uuid import UUID

from callback_middleware.egress import EgressPolicy
from callback_middleware.exchange import Exchange
from callback_middleware.operations import Callback, Operation
from callback_middleware.options import SUCCESS
from callback_middleware.planning.depth import deepened, depth_of
from callback_middleware.planning.plans import Plan, Planned, Skip, SubscriptionPlan, Verb
from callback_middleware.planning.resolving import declared_payload, resolve, text_of
from callback_middleware.planning.unanswered import check_unanswered
from callback_middleware.planning.wanted import (
    Asked,
    ParameterValue,
    Wanted,
    WantedEnd,
    WantedNotification,
    WantedSubscription,
    due_at,
)
from callback_middleware.values import Reason, Unresolved

__all__ = [
    "Asked",
    "ParameterValue",
    "Plan",
    "Planned",
    "Skip",
    "SubscriptionPlan",
    "Verb",
    "Wanted",
    "WantedEnd",
    "WantedNotification",
    "WantedSubscription",
    "check_unanswered",
    "drop",
    "due_at",
    "plan",
    "reads_request",
    "text_of",
]


_PLACED = (Wanted, WantedSubscription)
"""What is asked for with a destination of its own."""


def reads_request(operation: Operation, staged: Iterable[Asked] | None, status: int | None) -> bool:
    """Whether planning this looks at the request's body.

    Args:
        operation: The operation that was matched.
        staged: What the handler asked for; None where those are planned that send themselves.
        status: The response's; None where there is no response, and none is waited for.
    """
    callbacks: Iterable[Callback] = operation.automatic
    if staged is not None:
        callbacks = [asked.callback for asked in staged if isinstance(asked, _PLACED)]
    return bool([one for one in callbacks if one.needs.request_body and (status is None or status in one.options.on)])


def plan(
    operation: Operation,
    exchange: Exchange,
    staged: Iterable[Asked] | None,
    *,
    egress: EgressPolicy,
    new_id: Callable[[], UUID],
    unanswered: bool = False,
) -> Planned:
    """Plan one exchange.

    Args:
        operation: The operation that was matched.
        exchange: Request and response, as far as they were captured.
        staged: What the handler asked for; None where it never took its callbacks in hand, and then those that
            send themselves do.
        egress: Asked about every destination's text. The address is asked about when connecting.
        new_id: Makes the ids of callbacks that send themselves.
        unanswered: There is no response, and none is waited for: something else decides whether this is sent. What
            hangs on one was refused by :func:`check_unanswered`.
    """
    plans: list[Plan] = []
    skips: list[Skip] = []
    subscriptions: list[SubscriptionPlan] = []
    notifications: list[WantedNotification] = []
    ends: list[WantedEnd] = []
    depth = depth_of(exchange)
    for asked in _automatic(operation, new_id) if staged is None else staged:
        problem = None if unanswered else _status_problem(exchange, asked)
        result = problem or _plan_one(operation, exchange, asked, automatic=staged is None, egress=egress)
        if depth and not isinstance(result, Unresolved):
            result = deepened(result, depth)
        match result:
            case Plan():
                plans.append(result)
            case Unresolved():
                skips.append(_skip(operation, asked, result.reason, result.detail, result.expression))
            case SubscriptionPlan():
                subscriptions.append(result)
                # Ends are put last, and the handler's last word was that it shall be there.
                ends = [end for end in ends if not result.replaces(end)]
            case WantedNotification():
                notifications.append(result)
            case WantedEnd():
                ends.append(result)
            case _:
                assert_never(result)
    return Planned(plans, skips, subscriptions, notifications, ends)


def drop(operation: Operation, staged: Iterable[Asked], detail: str) -> Sequence[Skip]:
    """Skip everything that was staged: the handler did not come to a response."""
    return [_skip(operation, asked, Reason.STATUS, detail) for asked in staged]


def _automatic(operation: Operation, new_id: Callable[[], UUID]) -> Iterable[Wanted]:
    for callback in operation.automatic:
        yield Wanted(id=new_id(), callback=callback, body=None)


def _plan_one(
    operation: Operation, exchange: Exchange, asked: Asked, *, automatic: bool, egress: EgressPolicy
) -> Plan | SubscriptionPlan | WantedNotification | WantedEnd | Unresolved:
    match asked:
        case Wanted():
            return _delivery(operation, exchange, asked, automatic=automatic, egress=egress)
        case WantedSubscription():
            return _subscription(operation, exchange, asked, egress=egress)
        case WantedNotification() | WantedEnd():
            return asked
        case _:
            assert_never(asked)


def _status_problem(exchange: Exchange, asked: Asked) -> Unresolved | None:
    # What a callback says of statuses is about the operations that document it; who notifies may be another.
    on = asked.callback.options.on if isinstance(asked, _PLACED) else SUCCESS
    status = exchange.response_status
    if status is not None and status in on:
        return None
    return Unresolved(Reason.STATUS, "", f"the response is {status}, not {on}")


def _delivery(
    operation: Operation, exchange: Exchange, wanted: Wanted, *, automatic: bool, egress: EgressPolicy
) -> Plan | Unresolved:
    callback = wanted.callback
    resolved = resolve(callback, exchange, wanted.params, egress)
    if isinstance(resolved, Unresolved):
        return resolved
    destination, headers = resolved
    # Last, because a payload function is the only part that may be expensive, and only now is it known to be of use.
    body = declared_payload(callback, exchange) if automatic else wanted.body
    if isinstance(body, Unresolved):
        return body
    if body is not None and callback.body is not None:
        headers = [("content-type", callback.body.media_type), *headers]
    return Plan(
        id=wanted.id,
        operation=str(operation),
        callback=callback.name,
        method=callback.method,
        destination=destination,
        headers=headers,
        body=body,
        delay=callback.options.delay if wanted.delay is None else wanted.delay,
        at=wanted.at,
        retry=callback.options.retry,
        deadline=callback.options.deadline,
        dedupe=wanted.dedupe,
        tags=wanted.tags,
    )


def _subscription(
    operation: Operation, exchange: Exchange, wanted: WantedSubscription, *, egress: EgressPolicy
) -> SubscriptionPlan | Unresolved:
    callback = wanted.callback
    resolved = resolve(callback, exchange, wanted.params, egress)
    if isinstance(resolved, Unresolved):
        return resolved
    destination, headers = resolved
    return SubscriptionPlan(
        operation=str(operation),
        callback=callback.name,
        key=wanted.key,
        owner=wanted.owner,
        method=callback.method,
        destination=destination,
        headers=headers,
        expires=wanted.expires,
        retry=callback.options.retry,
        deadline=callback.options.deadline,
        tags=wanted.tags,
    )


def _skip(operation: Operation, asked: Asked, reason: Reason, detail: str, expression: str = "") -> Skip:
    match asked:
        case Wanted():
            return Skip(str(operation), asked.callback.name, reason, detail, expression, asked.id)
        case WantedSubscription():
            return Skip(str(operation), asked.callback.name, reason, detail, expression, verb=Verb.SUBSCRIBE)
        case WantedNotification():
            return Skip(asked.operation, asked.callback, reason, detail, id=asked.id, verb=Verb.NOTIFY)
        case WantedEnd():
            return Skip(asked.operation, asked.callback, reason, detail, verb=Verb.UNSUBSCRIBE)
        case _:
            assert_never(asked)
