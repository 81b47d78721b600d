"""How many callbacks a request is the consequence of.

A callback's URL may be this API's own public address, or lead back to it by way of another's: without a count, one
request would go around for ever. Every attempt says how deep it is, and a request that is too deep calls nobody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from callback_middleware.exchange import Exchange
from callback_middleware.planning.plans import Plan, SubscriptionPlan
from callback_middleware.planning.wanted import WantedEnd, WantedNotification
from callback_middleware.values import Reason, Unresolved

HEADER: Final = "callback-depth"

DEEPEST: Final = 3
"""A request of this depth is answered like any other, and its callbacks are refused."""

_MOST_DIGITS: Final = 9


def depth_of(exchange: Exchange) -> int:
    """The depth that a request says it has; 0 for one that says none, or nothing that is a number."""
    text = exchange.request_headers.first(HEADER)
    if text is None:
        return 0
    text = text.strip()
    if not text.isascii() or not text.isdigit():
        return 0
    return DEEPEST if len(text) > _MOST_DIGITS else int(text)


def deepened(
    planned: Plan | SubscriptionPlan | WantedNotification | WantedEnd, depth: int
) -> Plan | SubscriptionPlan | WantedNotification | WantedEnd | Unresolved:
    """What becomes of something planned in a request of this depth, which is not 0."""
    if isinstance(planned, WantedEnd):
        return planned
    if depth >= DEEPEST:
        detail = f"the request is itself callback number {depth} in a row, and may call nobody"
        return Unresolved(Reason.REFUSED, "", detail)
    header = (HEADER, str(depth + 1))
    if isinstance(planned, Plan):
        return planned._replace(headers=[*planned.headers, header])
    if isinstance(planned, WantedNotification):
        return replace(planned, headers=(*planned.headers, header))
    # What is sent to it later is as deep as the request that notifies.
    return planned
