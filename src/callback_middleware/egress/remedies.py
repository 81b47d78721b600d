"""What a policy has against a URL or an address, and the line of configuration that would allow it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from callback_middleware.errors import EgressRefused

__all__ = ["Change", "Objection", "refusal"]


class Change(NamedTuple):
    """What would have to be added to one of a policy's settings, or dropped from it."""

    setting: str
    add: Collection[Any] = ()
    drop: Collection[Any] = ()


class Objection(NamedTuple):
    """A rule that refuses, and what would have to change for it not to."""

    rule: str
    changes: Sequence[Change]


def refusal(policy: object, objections: Sequence[Objection]) -> EgressRefused:
    """The error that states the first objection, and how to meet all of them at once.

    The line is Python. It names every setting that has to change, with the whole of its new value: what the policy
    has now, and what is missing.
    """
    settings: dict[str, set[Any]] = {}
    for objection in objections:
        for setting, add, drop in objection.changes:
            value = settings.setdefault(setting, set(getattr(policy, setting)))
            value |= set(add)
            value -= set(drop)
    arguments = ", ".join(f"{setting}={tuple(sorted(value))!r}" for setting, value in settings.items())
    return EgressRefused(objections[0].rule, f"EgressPolicy({arguments})")
