"""Idle connections, checked against a model that is too slow to use."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callback_middleware.senders.idle import ConnectionKey, IdleConnections, PoolLimits

LIMITS = PoolLimits(connections=10, idle=4, idle_per_key=2, keepalive=3)
KEYS = [ConnectionKey("http", host, 80, IPv4Address("127.0.0.1")) for host in ("a", "b", "c")]


class IdleMachine(RuleBasedStateMachine):
    """A list of (key, connection, since) in the order of idling does the same, slowly."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: IdleConnections[int] = IdleConnections(LIMITS)
        self.model: list[tuple[ConnectionKey, int, float]] = []
        self.now = 0.0
        self.next = 0

    @rule(key=st.sampled_from(KEYS))
    def put(self, key: ConnectionKey) -> None:
        connection = self.next = self.next + 1
        surplus = self.idle.put(key, connection, now=self.now)
        self.model.append((key, connection, self.now))
        expected = []
        of_key = [entry for entry in self.model if entry[0] == key]
        if len(of_key) > LIMITS.idle_per_key:
            expected.append(of_key[0])
            self.model.remove(of_key[0])
        if len(self.model) > LIMITS.idle:
            expected.append(self.model.pop(0))
        assert list(surplus) == [entry[1] for entry in expected]

    @rule(key=st.sampled_from(KEYS))
    def take(self, key: ConnectionKey) -> None:
        of_key = [entry for entry in self.model if entry[0] == key]
        assert self.idle.take(key) == (of_key[-1][1] if of_key else None)
        if of_key:
            self.model.remove(of_key[-1])

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0]))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        old = [entry for entry in self.model if self.now - entry[2] >= LIMITS.keepalive]
        assert list(self.idle.expired(now=self.now)) == [entry[1] for entry in old]
        self.model = [entry for entry in self.model if entry not in old]

    @invariant()
    def counts(self) -> None:
        assert len(self.idle) == len(self.model)
        # A key without connections is forgotten: receivers come and go.
        assert self.idle._stacks.keys() == {entry[0] for entry in self.model}


TestIdleConnections = IdleMachine.TestCase


def test_there_is_no_oldest_of_none() -> None:
    with pytest.raises(KeyError):
        IdleConnections[int](LIMITS).take_oldest()
