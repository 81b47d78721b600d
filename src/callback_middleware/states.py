"""What a delivery may be, and what may become of it.

Five states are stored. "Scheduled" and "retrying" are no states: they are a pending delivery's ``due_at`` and
number of attempts. :data:`TRANSITIONS` is the only place that says which state follows which; an event that
it does not list raises :class:`IllegalTransition` and nothing else happens.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from callback_middleware.errors import OutboxError


class State(enum.StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (State.DELIVERED, State.DEAD, State.CANCELLED)


class Event(enum.StrEnum):
    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    RELEASE = "release"
    GIVE_UP = "give up"
    LEASE_EXPIRED = "lease expired"
    CANCEL = "cancel"
    REPLAY = "replay"


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.PENDING: {Event.CLAIM: State.SENDING, Event.CANCEL: State.CANCELLED, Event.GIVE_UP: State.DEAD},
    State.SENDING: {
        Event.SUCCEED: State.DELIVERED,
        Event.RETRY: State.PENDING,
        Event.RELEASE: State.PENDING,
        Event.GIVE_UP: State.DEAD,
        Event.LEASE_EXPIRED: State.PENDING,
        Event.CANCEL: State.CANCELLED,
    },
    State.DELIVERED: {Event.REPLAY: State.PENDING},
    State.DEAD: {Event.REPLAY: State.PENDING},
    State.CANCELLED: {Event.REPLAY: State.PENDING},
}


class IllegalTransition(OutboxError):
    """A delivery was asked to move in a way that :data:`TRANSITIONS` does not list."""

    def __init__(self, state: State, event: Event) -> None:
        self.state = state
        self.event = event
        super().__init__(f"a delivery that is {state} cannot {event}")


def advance(state: State, event: Event) -> State:
    """The state that follows. Raises :class:`IllegalTransition` where the table lists none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None
