"""Which documented path a request is for."""

from __future__ import annotations

import pytest

from callback_middleware.sources.paths import PathTable, segments_of, without_base

TEMPLATES = [
    "/users/{id}",
    "/users/me",
    "/users/{id}/files/{name}.json",
    "/users/{id}/files/{name}",
    "/{anything}/me",
    "/reports/{from}-{to}",
    "/caf%C3%A9",
    "/trailing/",
    "/",
]


def find(path: str) -> tuple[str, dict[str, str]] | None:
    table: PathTable[str] = PathTable()
    for template in TEMPLATES:
        table.add(template, template)
    found = next(table.find(path.split("/")), None)
    return None if found is None else (found[0], dict(found[1]))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/users/me", ("/users/me", {})),
        ("/users/7", ("/users/{id}", {"id": "7"})),
        ("/x/me", ("/{anything}/me", {"anything": "x"})),
        ("/users/7/files/a.json", ("/users/{id}/files/{name}.json", {"id": "7", "name": "a"})),
        ("/users/7/files/a.txt", ("/users/{id}/files/{name}", {"id": "7", "name": "a.txt"})),
        ("/reports/2025-2026", ("/reports/{from}-{to}", {"from": "2025", "to": "2026"})),
        ("/café", ("/caf%C3%A9", {})),
        ("/trailing/", ("/trailing/", {})),
        ("/trailing", None),
        ("/users/", None),
        ("/users/7/", None),
        ("/", ("/", {})),
        ("/nowhere", None),
    ],
)
def test_concrete_segments_go_before_templated_ones(path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    assert find(path) == expected


def test_of_equal_templates_each_keeps_its_own_names() -> None:
    table: PathTable[int] = PathTable()
    table.add("/a/{x}", 1)
    table.add("/a/{y}", 2)
    assert list(table.find(["", "a", "v"])) == [(1, {"x": "v"}), (2, {"y": "v"})]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"path": "/a/b"}, ["", "a", "b"]),
        ({"path": "/a/b/c", "raw_path": b"/a/b%2Fc"}, ["", "a", "b/c"]),
        ({"path": "/ä b", "raw_path": b"/%C3%A4%20b?q=1"}, ["", "ä b"]),
        ({"path": "/rewritten", "raw_path": b"/original"}, ["", "rewritten"]),
        ({"path": "/a+b", "raw_path": b"/a+b"}, ["", "a+b"]),
    ],
)
def test_segments_are_decoded_one_by_one(scope: dict[str, object], expected: list[str]) -> None:
    assert list(segments_of(scope)[0]) == expected


def test_a_path_that_was_rewritten_is_also_known_as_it_came() -> None:
    """Litestar takes the slash off the end before its handler runs."""
    rewritten = {"path": "/invoices", "raw_path": b"/invoices/"}
    assert segments_of(rewritten) == [["", "invoices"], ["", "invoices", ""]]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("", ["", "v1", "x"]),
        ("/", ["", "v1", "x"]),
        ("/v1", ["", "x"]),
        ("/v1/", ["", "x"]),
        ("/v1/x", ["", ""]),
        ("/v", None),
        ("/v1/x/y", None),
    ],
)
def test_a_base_path_ends_with_a_segment(base: str, expected: list[str] | None) -> None:
    assert without_base(["", "v1", "x"], base) == expected
