"""What documents declare of a receiver's answer."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from documents import EVENT, JSON, callback_operation, documented, raw
from invoicing import only_callback

from callback_middleware.responses import AnswerCheck
from callback_middleware.sources.discovery import Directory, discover

ACK = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}
OK = b'{"ok":true}'


def directory_of(responses: Any, /, *, version: str = "3.1.0", **components: Any) -> Directory:
    operation = callback_operation(EVENT) | {"responses": responses}
    return discover(raw, documented(operation, version=version, components=components))


def declared(responses: Any, /, *, version: str = "3.1.0", **components: Any) -> AnswerCheck:
    answers = only_callback(directory_of(responses, version=version, **components)).answers
    assert answers is not None
    return answers


def answering(schema: Any, media_type: str = JSON) -> Any:
    return {"description": "ok", "content": {media_type: {"schema": schema}}}


def test_an_answer_is_checked_against_its_statuss_schema() -> None:
    check = declared({"200": answering(ACK), "201": answering({"type": "array"}), "404": answering(EVENT)})
    assert check(200, JSON, OK) is None
    assert check(201, JSON, b"[]") is None
    assert check(201, JSON, OK) == """the body does not fit its schema: "$: type must be 'array'\""""
    assert check(202, JSON, OK) == "answered 202; declared: 200, 201"


def test_what_differs_is_told_by_the_schemas_words_and_not_by_the_receivers() -> None:
    check = declared({"200": answering(ACK)})
    problem = check(200, JSON, b'{"ok":"hunter2"}')
    assert problem == """the body does not fit its schema: "$.ok: type must be 'boolean'\""""
    assert check(200, JSON, b"{}") == """the body does not fit its schema: "$: 'ok' is a required property\""""


def test_a_path_that_the_receiver_chose_is_escaped_and_cut() -> None:
    check = declared({"200": answering({"additionalProperties": {"type": "integer"}})})
    problem = check(200, JSON, b'{"\\u001b[2J\\n%s":"x"}' % (b"y" * 5000))
    assert problem is not None
    assert problem.isascii()
    assert problem.isprintable()
    assert len(problem) < 300


@pytest.mark.parametrize("key", ["2XX", "2xx", "default", 200])
def test_a_status_may_be_a_range_the_default_or_what_yaml_makes_of_it(key: Any) -> None:
    check = declared({key: answering(ACK), "x-more": 5})
    assert check(200, JSON, OK) is None
    assert check(200, JSON, b"[]") is not None


def test_failures_are_not_listed_and_not_compiled() -> None:
    assert declared({"404": answering({"$ref": "#/nowhere"})})(200, JSON, OK) == "answered 200; declared: no status"


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0", "3.2.0"])
def test_references_are_followed_and_each_version_has_its_dialect(version: str) -> None:
    nullable = {"type": "string", "nullable": True} if version == "3.0.3" else {"type": ["string", "null"]}
    ack = {**ACK, "properties": {"ok": {"type": "boolean"}, "note": nullable}}
    check = declared(
        {"200": {"$ref": "#/components/responses/Received"}},
        version=version,
        responses={"Received": answering({"$ref": "#/components/schemas/Ack"})},
        schemas={"Ack": ack},
    )
    assert check(200, JSON, b'{"ok":true,"note":null}') is None
    assert check(200, JSON, b'{"ok":true,"note":5}') is not None


def test_a_media_type_object_may_be_a_reference() -> None:
    check = declared(
        {"200": {"content": {JSON: {"$ref": "#/components/mediaTypes/Ack"}}}},
        version="3.2.0",
        mediaTypes={"Ack": {"schema": ACK}},
    )
    assert check(200, JSON, b"{}") is not None


def test_what_is_declared_as_json_must_be_json() -> None:
    check = declared({"200": answering(ACK)})
    assert check(200, JSON, b"") == "the body is empty; declared: application/json"
    problem = check(200, JSON, b"<h1>hunter2</h1>")
    assert problem == "the body cannot be read as JSON (not JSON: Expecting value, at line 1 column 1)"
    assert check(200, "text/html", b"<h1>OK</h1>") == "the body is of another media type; declared: application/json"
    assert check(200, None, OK) is None


@pytest.mark.parametrize("silent", [{}, {"schema": {}}, {"schema": True}])
def test_json_of_which_nothing_is_said_is_not_meant(silent: Any) -> None:
    check = declared({"200": {"content": {JSON: silent}}})
    assert check(200, "text/plain", b"OK") is None
    assert check(200, None, b"") is None
    beside = declared({"200": {"content": {JSON: silent, "text/csv": {"schema": {"type": "string"}}}}})
    assert beside(200, JSON, b"anything") is None
    assert beside(200, "text/html", b"x") == "the body is of another media type; declared: application/json, text/csv"


def test_other_media_types_are_not_looked_into() -> None:
    check = declared({"200": answering({"type": "integer"}, "text/plain")})
    assert check(200, "text/plain; charset=utf-8", b"no integer") is None
    assert check(200, JSON, b"5") is not None


def test_a_range_of_media_types_may_be_json() -> None:
    check = declared({"200": answering(ACK, "*/*")})
    assert check(200, JSON, b"{}") is not None
    assert check(200, JSON, OK) is None
    assert check(200, "text/plain", b"OK") is None
    assert check(200, None, b"") is None


@pytest.mark.parametrize("nothing", [None, {}])
def test_without_responses_nothing_is_declared(nothing: Any) -> None:
    assert only_callback(directory_of(nothing)).answers is None


@pytest.mark.parametrize(
    "wrong",
    [answering({"$ref": "#/nowhere"}), answering({"type": "no type"}), {"content": []}],
    ids=["reference", "schema", "content"],
)
def test_a_declaration_that_is_wrong_stops_no_start_and_is_told(wrong: Any) -> None:
    directory = directory_of({"200": wrong})
    assert only_callback(directory).answers is None
    (warning,) = directory.warnings
    assert "#/paths/~1invoices/post/callbacks/event/" in warning
    assert "what its receiver answers is not checked: #/paths/" in warning


def test_without_jsonschema_status_media_type_and_json_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    check = declared({"200": answering(ACK)})
    assert check(200, JSON, b"[]") is None
    assert check(200, JSON, b"[") is not None
    assert check(201, JSON, OK) is not None
    assert declared({"200": answering(ACK, "*/*")})(200, JSON, b"[") is None


class TestAStrangersText:
    """A receiver decides what it answers, and must not decide how long that is looked at."""

    def test_patterns_are_not_tried_on_it(self) -> None:
        text = {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}}
        check = declared({"200": answering(text)})
        assert check(200, JSON, b'{"text":"%s!"}' % (b"a" * 5000)) is None
        assert check(200, JSON, b'{"text":5}') is not None

    def test_members_that_patterns_name_are_left_alone(self) -> None:
        names = {
            "properties": {"known": {"type": "integer"}},
            "patternProperties": {"^(a+)+$": {}},
            "additionalProperties": False,
        }
        check = declared({"200": answering(names)})
        assert check(200, JSON, b'{"%s!":5}' % (b"a" * 5000)) is None
        assert check(200, JSON, b'{"known":"x"}') is not None
        only = {"properties": {"known": {}}, "additionalProperties": False}
        assert declared({"200": answering(only)})(200, JSON, b'{"other":5}') is not None

    def test_items_are_not_compared_each_with_every_other(self) -> None:
        check = declared({"200": answering({"uniqueItems": True})})
        assert check(200, JSON, b"[%s]" % b",".join([b'{"a":0}'] * 2000)) is None

    def test_of_what_differs_the_first_is_named(self) -> None:
        check = declared({"200": answering({"items": {"type": "integer"}})})
        many = b"[%s]" % b",".join([b'"x"'] * 5000)
        assert check(200, JSON, many) == """the body does not fit its schema: "$[0]: type must be 'integer'\""""

    @pytest.mark.parametrize(("keyword", "both_fit"), [("anyOf", True), ("oneOf", False)])
    def test_of_alternatives_it_is_asked_whether_they_fit(self, keyword: str, *, both_fit: bool) -> None:
        check = declared({"200": answering({keyword: [{"type": "integer"}, {"type": "number", "minimum": 5}]})})
        assert check(200, JSON, b"1") is None
        assert check(200, JSON, b"5.5") is None
        assert check(200, JSON, b"1.5") == f"the body does not fit its schema: '$: {keyword} is not satisfied'"
        assert (check(200, JSON, b"6") is None) is both_fit

    def test_what_contains_itself_is_looked_into_once(self) -> None:
        node = {"$ref": "#/components/schemas/Node"}
        either = [{"properties": {"next": node}, "required": [name]} for name in "ab"]
        check = declared({"200": answering(node)}, schemas={"Node": {"type": "object", "anyOf": either}})
        deep = b'{"next":' * 90 + b"{}" + b"}" * 90
        assert check(200, JSON, deep) is not None
        assert check(200, JSON, b'{"a":1,"next":%s}' % deep) is None
        assert check(200, JSON, b"[]") is not None
