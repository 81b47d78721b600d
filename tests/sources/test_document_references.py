"""References within a document."""

from __future__ import annotations

from typing import Any

import pytest

from callback_middleware.errors import DocumentError
from callback_middleware.sources.references import Place, References


def references(root: dict[str, Any]) -> References:
    return References(lambda: root)


def follow(root: dict[str, Any], reference: str) -> Place:
    return references(root).follow(Place({"$ref": reference}, "#/here"))


def test_a_place_without_a_reference_is_itself() -> None:
    place = Place({"type": "object"}, "#/x")
    assert references({}).follow(place) is place


@pytest.mark.parametrize(
    ("reference", "value", "pointer"),
    [
        ("#", None, "#"),
        ("#/a/b", 1, "#/a/b"),
        ("#/a/x~1y", 2, "#/a/x~1y"),
        ("#/a/t~0~1", 3, "#/a/t~0~1"),
        ("#/list/1", "second", "#/list/1"),
        ("#/a/200", "ok", "#/a/200"),
        ("#/a/caf%C3%A9", 4, "#/a/café"),
        ("#/", 5, "#/"),
    ],
)
def test_pointers_are_those_of_rfc_6901(reference: str, value: object, pointer: str) -> None:
    root = {"a": {"b": 1, "x/y": 2, "t~/": 3, 200: "ok", "café": 4}, "list": ["first", "second"], "": 5}
    found = follow(root, reference)
    assert found.pointer == pointer
    assert found.value == (root if value is None else value)


def test_references_are_followed_to_their_end() -> None:
    root = {"a": {"$ref": "#/b"}, "b": {"$ref": "#/c"}, "c": {"type": "string"}}
    assert follow(root, "#/a") == Place({"type": "string"}, "#/c")


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("#/b", r"^#/here: .*leads nowhere.*'b'"),
        ("#/list/2", "leads nowhere"),
        ("#/list/-1", "leads nowhere"),
        ("#/a/deeper", "leads nowhere"),
        ("other.yaml#/a", r"^#/here: .*another document"),
        ("https://example.com/x.json", "another document"),
        ("#anchor", "anchor"),
    ],
)
def test_a_reference_that_cannot_be_followed_says_where_it_stands(reference: str, complaint: str) -> None:
    with pytest.raises(DocumentError, match=complaint):
        follow({"a": "text", "list": [1]}, reference)


def test_a_reference_that_leads_back_to_itself_is_an_error() -> None:
    with pytest.raises(DocumentError, match="leads back to itself"):
        follow({"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}, "#/a")


def test_a_document_may_name_itself() -> None:
    """OpenAPI 3.2: ``$self`` is the base of its references."""
    root = {"$self": "https://example.com/api/v1.yaml", "a": 1}
    assert follow(root, "https://example.com/api/v1.yaml#/a").value == 1
    assert follow(root, "v1.yaml#/a").value == 1
    with pytest.raises(DocumentError, match="another document"):
        follow(root, "v2.yaml#/a")


def test_the_document_is_made_when_the_first_reference_is_followed() -> None:
    made: list[int] = []

    def root() -> dict[str, Any]:
        made.append(1)
        return {"a": 1, "b": 2}

    lazy = References(root)
    lazy.follow(Place({}))
    assert made == []
    lazy.follow(Place({"$ref": "#/a"}))
    lazy.follow(Place({"$ref": "#/b"}))
    assert made == [1]


def test_what_is_of_another_kind_than_it_must_be_says_so() -> None:
    with pytest.raises(DocumentError, match=r"#/x must be an object, not text"):
        Place("text", "#/x").object()
    with pytest.raises(DocumentError, match=r"#/x must be an array, not an? "):
        list(Place({}, "#/x").items())
