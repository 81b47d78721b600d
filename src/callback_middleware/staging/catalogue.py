"""Every callback of an application, wherever it is documented: who notifies does so in another operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from callback_middleware.errors import AmbiguousCallback, CallbackNotFound, PayloadInvalid
from callback_middleware.operations import Callback, Operation
from callback_middleware.staging.arguments import encoded

Headers: TypeAlias = Sequence[tuple[str, str]]


class Place(NamedTuple):
    """One documentation of a callback."""

    operation: Operation
    callback: Callback

    def __str__(self) -> str:
        return f"{self.callback} of {self.operation}"


@dataclass(frozen=True, slots=True)
class Documented:
    """What one function or name stands for in an application: callbacks of one name, at one place or several.

    Attributes:
        places: Every documentation of it, at least one.
        kinds: Those of the places whose bodies may differ.
    """

    places: Sequence[Place]
    kinds: Sequence[Callback]

    @property
    def name(self) -> str:
        """The callback's name."""
        return self.kinds[0].name

    @property
    def operation(self) -> str:
        """One that documents it, as ``POST /invoices/``."""
        return str(self.places[0].operation)

    def encode(self, body: object) -> tuple[bytes | None, Headers]:
        """The exact bytes of a body and the header that goes with them, checked as :meth:`Callbacks.send` does.

        Raises:
            PayloadInvalid: It does not fit the callback's declaration.
            AmbiguousCallback: Two declarations would make something else of it.
        """
        first = _encoded(self.kinds[0], body)
        for other in self.kinds[1:]:
            if _encoded(other, body) != first:
                raise AmbiguousCallback(
                    f"{self.name!r} is documented with bodies that differ: {_listed(self.places)}; notify it by its "
                    "function, or give its callbacks names of their own"
                )
        if isinstance(first, _Unfit):
            raise first.error
        return first


class Catalogue:
    """The callbacks of one application.

    Args:
        operations: Its operations as they are known now; routes may be added later.
    """

    def __init__(self, operations: Callable[[], Sequence[Operation]]) -> None:
        self._operations = operations
        self._known: dict[str | int, Documented] = {}

    def find(self, callback: Callable[..., object] | str) -> Documented:
        """What a function or name stands for in the whole application.

        Raises:
            CallbackNotFound: Nothing; the message lists what there is.
            AmbiguousCallback: Callbacks of different names; the message lists them.
        """
        key = callback if isinstance(callback, str) else id(callback)
        known = self._known.get(key)
        if known is None:
            # Kept by identity: the callbacks in it keep their functions, so that none is used again.
            known = self._known[key] = self._look(callback)
        return known

    def _look(self, callback: Callable[..., object] | str) -> Documented:
        listed = [Place(operation, one) for operation in self._operations() for one in operation.callbacks]
        places = [
            place
            for place in listed
            if (place.callback.name == callback if isinstance(callback, str) else place.callback.function is callback)
        ]
        wanted = callback if isinstance(callback, str) else getattr(callback, "__qualname__", repr(callback))
        if not places:
            raise CallbackNotFound(
                f"the application documents no callback {wanted!r}; it documents {_listed(listed) or 'none'}"
            )
        if len({place.callback.name for place in places}) > 1:
            raise AmbiguousCallback(
                f"{wanted!r} stands for callbacks of different names: {_listed(places)}; give the name that is meant"
            )
        kinds = {_kind(place.callback): place.callback for place in places}
        return Documented(places, tuple(kinds.values()))


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A body that a declaration does not allow. One refusal is like another."""

    error: PayloadInvalid = field(compare=False)


def _encoded(callback: Callback, body: object) -> tuple[bytes | None, Headers] | _Unfit:
    try:
        content = encoded(callback, callback.body, body)
    except PayloadInvalid as error:
        return _Unfit(error)
    if content is None or callback.body is None:
        return None, ()
    return content, (("content-type", callback.body.media_type),)


def _kind(callback: Callback) -> object:
    """The same for callbacks whose bodies are declared by the same words."""
    body = callback.body
    if body is None:
        return None
    # A function has one model, which every operation that documents it compiles anew.
    return (id(callback.function or body), body.media_type, body.required)


def _listed(places: Sequence[Place]) -> str:
    return "; ".join(map(str, places))
