"""What a callback declares of its receiver's answer, and how an answer differs from it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from callback_middleware.responses import AnswerCheck, Content, Responses, any_of

JSON = "application/json"


def ok(body: bytes) -> str | None:
    return None if body == b"ok" else "not ok"


def declaring(**contents: Sequence[Content]) -> Responses:
    return Responses({status.removeprefix("_"): listed for status, listed in contents.items()})


def test_a_declared_status_fits_and_another_success_does_not() -> None:
    check = declaring(_200=(), _201=())
    assert check(200, JSON, b"anything") is None
    assert check(202, None, b"") == "answered 202; declared: 200, 201"
    assert Responses({})(200, None, b"") == "answered 200; declared: no status"


def test_the_most_specific_status_counts() -> None:
    check = declaring(
        _200=[Content(JSON, ok)], _2xx=[Content(JSON, lambda _: "2xx")], Default=[Content(JSON, lambda _: "default")]
    )
    assert check(200, JSON, b"ok") is None
    assert check(201, JSON, b"ok") == "2xx"
    assert Responses({"default": [Content(JSON, lambda _: "default")]})(201, JSON, b"ok") == "default"


def test_many_statuses_are_not_all_listed() -> None:
    check = Responses({str(status): () for status in range(210, 240)})
    assert check(200, None, None) == f"answered 200; declared: {', '.join(map(str, range(210, 220)))}, …"


def test_a_response_without_contents_says_nothing_of_its_body() -> None:
    assert declaring(_200=())(200, "text/html", b"<h1>Thanks</h1>") is None


@pytest.mark.parametrize("status", [204, 205])
def test_a_success_that_has_no_body_is_not_asked_for_one(status: int) -> None:
    check = declaring(_2XX=[Content(JSON, ok)])
    assert check(status, None, b"") is None
    assert check(status, "text/plain", b"") is None
    assert check(200, None, b"") == "not ok"


@pytest.mark.parametrize(
    ("declared", "given", "fits"),
    [
        (JSON, "application/json", True),
        (JSON, "Application/JSON ; charset=utf-8", True),
        ("application/json; charset=utf-8", JSON, True),
        (JSON, "application/problem+json", False),
        (JSON, "text/plain", False),
        (JSON, "nonsense", False),
        ("text/*", "text/plain", True),
        ("text/*", "application/text", False),
        ("*/*", "image/png", True),
    ],
)
def test_media_types_are_compared_without_their_parameters(declared: str, given: str, *, fits: bool) -> None:
    problem = declaring(_200=[Content(declared)])(200, given, b"x")
    assert problem == (None if fits else f"the body is of another media type; declared: {declared}")


def test_another_media_type_is_told_without_naming_it() -> None:
    check = declaring(_200=[Content(JSON, ok), Content(JSON), Content("text/plain")])
    problem = check(200, "text/hunter2", b"hunter2")
    assert problem == "the body is of another media type; declared: application/json, text/plain"


def test_a_body_that_does_not_say_what_it_is_may_be_any_of_those() -> None:
    check = declaring(_200=[Content("text/plain", lambda _: "no text"), Content(JSON, ok)])
    assert check(200, None, b"ok") is None
    assert check(200, None, b"no") == "no text"
    assert check(200, JSON, b"no") == "not ok"


def test_no_content_is_of_no_media_type() -> None:
    assert declaring(_200=[Content(JSON, ok)])(200, "text/html", b"") == "not ok"


def test_of_a_body_that_is_not_known_status_and_media_type_are_judged() -> None:
    check = declaring(_200=[Content(JSON, ok)])
    assert check(200, JSON, None) is None
    assert check(200, None, None) is None
    assert check(201, JSON, None) == "answered 201; declared: 200"
    assert check(200, "text/html", None) == "the body is of another media type; declared: application/json"


def test_where_one_of_several_holds_what_fits_any_of_them_fits() -> None:
    def refusing(status: int, media_type: str | None, body: bytes | None) -> str | None:
        return "refused"

    checks: list[AnswerCheck] = [refusing, declaring(_200=())]
    assert any_of(checks)(200, None, b"") is None
    assert any_of(checks)(201, None, b"") == "refused"
    assert any_of([refusing]) is refusing
