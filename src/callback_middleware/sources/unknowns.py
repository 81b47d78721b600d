"""The two answers to "which operation is this request for?" that are neither one nor none."""

from __future__ import annotations

import enum
from typing import Final


class Unrouted(enum.Enum):
    """The type of :data:`UNROUTED`."""

    UNROUTED = enum.auto()


class Opaque(enum.Enum):
    """The type of :data:`OPAQUE`."""

    OPAQUE = enum.auto()


UNROUTED: Final = Unrouted.UNROUTED
"""No router has chosen a route for the request yet, so nobody knows."""

OPAQUE: Final = Opaque.OPAQUE
"""A router has handed the request to an application whose routes cannot be seen: only a document knows."""
