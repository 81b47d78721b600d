"""Who finds room, decided: what a put brings against what is live of each origin. Engines differ in how they look."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from callback_middleware.backlog import BacklogLimits, Refusal, refusal, tightest
from callback_middleware.delivery import Delivery
from callback_middleware.outbox.columns import origin_key
from callback_middleware.outbox.plenty import Plenty


class Standing(NamedTuple):
    """How an origin stands: how many deliveries are live, and whether it has ever accepted one."""

    live: int
    accepted: bool


def crowded(
    plenty: Plenty, limits: BacklogLimits, wanted: Mapping[int, int], standings: Mapping[int, Standing]
) -> Mapping[int, Standing]:
    """Those of the origins that were looked at that have no room for so many. Of the others it is learnt."""
    full = {}
    for key, standing in standings.items():
        holds = tightest(limits, accepted=standing.accepted)
        spare = (sys.maxsize if holds is None else holds[1]) - standing.live - wanted[key]
        if spare < 0:
            full[key] = standing
        else:
            plenty.learn(key, spare)
    return full


def refused(
    limits: BacklogLimits, deliveries: Sequence[Delivery], full: Mapping[int, Standing], known: Collection[UUID]
) -> dict[UUID, Refusal]:
    """Which of these, all sent at once, find no room, and why: the first ones take what there is.

    Args:
        limits: How many may be live.
        deliveries: In the order in which they are stored.
        full: How the crowded origins stand, by their keys.
        known: Of what goes there, the ids that are stored already: they need no room.
    """
    standings, there = dict(full), set(known)
    refusals: dict[UUID, Refusal] = {}
    for delivery in deliveries:
        key = origin_key(delivery.origin)
        standing = standings.get(key)
        if standing is None or delivery.id in there:
            continue
        why = refusal(limits, delivery.origin, accepted=standing.accepted, live=standing.live)
        if why is None:
            there.add(delivery.id)
            standings[key] = standing._replace(live=standing.live + 1)
        else:
            refusals[delivery.id] = why
    return refusals
