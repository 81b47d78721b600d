"""Places in an OpenAPI document, and the references between them (RFC 6901 pointers in URI fragments)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urljoin

from callback_middleware.errors import DocumentError

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Place:
    """A value in a document, and where it stands.

    Attributes:
        value: Any JSON value.
        pointer: As a URI fragment: ``#/paths/~1invoices/post``.
    """

    value: Any
    pointer: str = "#"

    def child(self, key: str | int) -> Place:
        """The member or item of that name or number; its value is None where there is no such member.

        Raises:
            DocumentError: This is neither object nor array.
        """
        if isinstance(self.value, list | tuple):
            value = self.value[int(key)]
        else:
            found = _member(self.object(), str(key))
            value = None if found is _ABSENT else found
        return Place(value, f"{self.pointer}/{escaped(str(key))}")

    def members(self) -> Iterator[tuple[str, Place]]:
        """The members of an object, in order, by their names as text: YAML reads ``200:`` as a number.

        Raises:
            DocumentError: This is no object.
        """
        for key in self.object():
            yield str(key), self.child(str(key))

    def items(self) -> Iterator[Place]:
        """The items of an array; none where there is nothing at all.

        Raises:
            DocumentError: This is no array.
        """
        if self.value is None:
            return
        if not isinstance(self.value, list | tuple):
            raise DocumentError(f"{self.pointer} must be an array, not {_kind(self.value)}")
        for number in range(len(self.value)):
            yield self.child(number)

    def object(self) -> Mapping[Any, Any]:
        """The value as an object; empty where there is nothing at all.

        Raises:
            DocumentError: This is no object.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            raise DocumentError(f"{self.pointer} must be an object, not {_kind(self.value)}")
        return self.value

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and _member(self.value, key) is not _ABSENT


class References:
    """Follows the references of one document. All of them must stay within it.

    Args:
        root: Makes the document; called when the first reference is followed.
    """

    def __init__(self, root: Callable[[], Mapping[str, Any]]) -> None:
        self._make_root = root
        self._root: Mapping[str, Any] | None = None

    def follow(self, place: Place) -> Place:
        """The place itself, or what its ``$ref`` refers to in the end. Members beside a ``$ref`` do not count.

        Raises:
            DocumentError: The reference leads out of the document, nowhere, or back to itself; the message has the
                pointer of the place where it stands.
        """
        passed: list[str] = []
        while isinstance(place.value, Mapping) and isinstance(place.value.get("$ref"), str):
            if place.pointer in passed:
                raise DocumentError(
                    f"{passed[0]}: the reference leads back to itself by way of {', '.join(passed[1:])}"
                )
            passed.append(place.pointer)
            place = self.find(place.value["$ref"], place.pointer)
        return place

    def find(self, reference: str, at: str) -> Place:
        """What a reference that stands at the pointer ``at`` refers to, itself perhaps a reference.

        Raises:
            DocumentError: As of :meth:`follow`.
        """
        if self._root is None:
            self._root = self._make_root()
        document, _, fragment = reference.partition("#")
        if document and not self._is_own(document):
            raise DocumentError(
                f"{at}: $ref {reference!r} leads to another document, which is not read: bundle both into one"
            )
        pointer = unquote(fragment)
        if pointer and not pointer.startswith("/"):
            raise DocumentError(f"{at}: $ref {reference!r} names an anchor: write a pointer, such as #/components/…")
        place = Place(self._root)
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if not _has(place.value, name):
                raise DocumentError(f"{at}: $ref {reference!r} leads nowhere: there is no {name!r} in {place.pointer}")
            place = place.child(name)
        return place

    def _is_own(self, document: str) -> bool:
        """Whether a URI is the document's own: it may name itself (OpenAPI 3.2, ``$self``)."""
        own = (self._root or {}).get("$self")
        return isinstance(own, str) and urljoin(own, document) == urljoin(own, own.partition("#")[0])


def escaped(token: str) -> str:
    """A member's name within a pointer (RFC 6901, section 3)."""
    return token.replace("~", "~0").replace("/", "~1")


def _has(value: Any, name: str) -> bool:
    if isinstance(value, Mapping):
        return _member(value, name) is not _ABSENT
    return isinstance(value, list | tuple) and name.isascii() and name.isdigit() and int(name) < len(value)


def _member(value: Mapping[Any, Any], name: str) -> Any:
    found = value.get(name, _ABSENT)
    if found is _ABSENT and name.isascii() and name.isdigit():
        return value.get(int(name), _ABSENT)
    return found


def _kind(value: object) -> str:
    named = {str: "text", dict: "an object", list: "an array", bool: "a boolean", int: "a number", float: "a number"}
    return named.get(type(value), type(value).__name__)
