"""How many attempts are under way to each address, whatever names led to it.

Whoever has a wildcard name can make any number of origins that all lead to one machine, which need not be theirs. The
bound on attempts to one origin does not protect that machine; this one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from callback_middleware.egress.addresses import Address, carried_by
from callback_middleware.outcomes import AddressBusy

__all__ = ["Occupancy"]

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(seconds=60)


@dataclass(slots=True)
class _Occupied:
    inside: int = 0
    outside: int = 0
    """Those who were turned away, less those who came in since: about as many as stand outside."""


class Occupancy:
    """The places at every address, for one event loop. An address where nobody is, is not remembered.

    Args:
        most: Places at one address.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._occupied: dict[int, _Occupied] = {}

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._occupied)

    def has_room(self, address: Address) -> bool:
        """Whether :meth:`enter` would find a place."""
        occupied = self._occupied.get(_reached(address))
        return occupied is None or occupied.inside < self._most

    def enter(self, address: Address) -> bool:
        """Take a place, which must be given back by :meth:`leave`. False where none is free."""
        place = _reached(address)
        occupied = self._occupied.get(place)
        if occupied is None:
            occupied = self._occupied[place] = _Occupied()
        elif occupied.inside >= self._most:
            return False
        occupied.inside += 1
        if occupied.outside:
            occupied.outside -= 1
        return True

    def leave(self, address: Address) -> None:
        """Give back a place."""
        place = _reached(address)
        occupied = self._occupied[place]
        occupied.inside -= 1
        if not occupied.inside:
            del self._occupied[place]

    def turn_away(self, address: Address) -> AddressBusy:
        """What to raise where :meth:`enter` found no place.

        Each ``most`` of those who are turned away wait a second longer, a minute at most: so they come back as the
        places become free, and not all at once.
        """
        occupied = self._occupied.get(_reached(address))
        if occupied is None:  # the last one has just left
            return AddressBusy(SHORTEST)
        occupied.outside += 1
        return AddressBusy(min(-(-occupied.outside // self._most) * SHORTEST, LONGEST))


def _reached(address: Address) -> int:
    """The address that packets arrive at, as the number that it is: Python takes long to hash one."""
    return int(address) if address.version == 4 else _behind(address)  # noqa: PLR2004 - an IP version


@lru_cache(maxsize=4096)
def _behind(address: Address) -> int:
    """IPv6 has many names for a machine that speaks IPv4; ``::1`` is none of them, and yet taken for 0.0.0.1."""
    return int(next(iter(carried_by(address)), address))
