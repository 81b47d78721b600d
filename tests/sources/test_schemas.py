"""Bodies that are declared by a JSON Schema."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from documents import EVENT, JSON, body_of, callback_operation, documented, errors_of, raw
from invoicing import only_callback

from callback_middleware.errors import ConfigurationError, PayloadInvalid
from callback_middleware.jsontext import loads
from callback_middleware.sources.discovery import discover
from callback_middleware.sources.schemas import schema_body


class TestBodies:
    def test_a_body_is_checked_and_written_as_it_was_given(self) -> None:
        body = body_of({"$ref": "#/components/schemas/Event"}, components={"Event": EVENT})
        assert body.required
        assert body.encode({"paid": True, "more": loads("1.10")}) == b'{"paid":true,"more":1.10}'
        with pytest.raises(PayloadInvalid, match="paid") as caught:
            body.encode({"total": "hunter2"})
        assert "hunter2" not in str(caught.value)

    def test_a_schema_may_contain_itself(self) -> None:
        tree = {"type": "object", "properties": {"child": {"$ref": "#/components/schemas/Tree"}}}
        body = body_of({"$ref": "#/components/schemas/Tree"}, components={"Tree": tree})
        body.encode({"child": {"child": {}}})
        with pytest.raises(PayloadInvalid, match="child"):
            body.encode({"child": {"child": 5}})

    def test_a_schema_that_refers_to_itself_without_end_is_refused_when_it_is_used(self) -> None:
        body = body_of({"$ref": "#/components/schemas/A"}, components={"A": {"$ref": "#/components/schemas/A"}})
        with pytest.raises(PayloadInvalid, match="without end"):
            body.encode({})

    def test_a_property_may_be_called_ref(self) -> None:
        body = body_of({"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "#/nowhere"}]})
        assert body.encode({"$ref": "#/nowhere"}) == b'{"$ref":"#/nowhere"}'

    @pytest.mark.parametrize(
        ("schema", "good", "bad"),
        [
            ({"type": "string", "nullable": True}, [None, "x"], [5]),
            ({"type": "string", "nullable": True, "enum": ["a"]}, [None, "a"], ["b"]),
            ({"allOf": [{"$ref": "#/components/schemas/Event"}], "nullable": True}, [None, {"paid": True}], [{}]),
            ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, [2], [1]),
            ({"type": "integer", "maximum": 1, "exclusiveMaximum": True}, [0], [1]),
            ({"type": "integer", "minimum": 1, "exclusiveMinimum": False}, [1], [0]),
            ({"type": "array", "items": {"type": "string", "nullable": True}}, [["x", None]], [[5]]),
            ({"$ref": "#/components/schemas/Event", "type": "string"}, [{"paid": False}], ["text"]),
            (
                {"type": "object", "properties": {"id": {"type": "string", "readOnly": True}}},
                [{"id": "1"}],
                [{"id": 1}],
            ),
        ],
    )
    def test_3_0_has_a_dialect_of_its_own(self, schema: Any, good: list[Any], bad: list[Any]) -> None:
        body = body_of(schema, version="3.0.3", components={"Event": EVENT})
        for value in good:
            body.encode(value)
        for value in bad:
            with pytest.raises(PayloadInvalid):
                body.encode(value)

    @pytest.mark.parametrize(
        ("schema", "good", "bad"),
        [
            ({"type": ["string", "null"]}, [None, "x"], [5]),
            ({"type": "integer", "exclusiveMinimum": 1}, [2], [1]),
            (
                {"$ref": "#/components/schemas/Event", "required": ["total"]},
                [{"paid": True, "total": 1}],
                [{"paid": True}],
            ),
            ({"prefixItems": [{"type": "string"}], "items": False}, [["x"]], [["x", "y"]]),
            ({"const": 1}, [1], [2]),
            ({"pattern": r"\p{Lu}"}, ["only ECMAScript knows this pattern"], []),
            ({"pattern": "^a+$"}, ["aa"], ["ab"]),
            ({"uniqueItems": True}, [[1, 2]], [[1, 1]]),
            ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, [{"x-a": 1}], [{"a": 1}]),
            (True, [1], []),
        ],
    )
    def test_3_1_is_json_schema(self, schema: Any, good: list[Any], bad: list[Any]) -> None:
        body = body_of(schema, components={"Event": EVENT})
        for value in good:
            body.encode(value)
        for value in bad:
            with pytest.raises(PayloadInvalid):
                body.encode(value)

    def test_a_form_is_written_from_a_mapping(self) -> None:
        schema = {"type": "object", "required": ["name"]}
        body = body_of(schema, media_type="application/x-www-form-urlencoded")
        given = {"name": "a b&c", "tags": ["x", "y"], "flag": True, "none": None, "deep": {"a": 1}}
        assert body.encode(given) == b"name=a+b%26c&tags=x&tags=y&flag=true&deep=%7B%22a%22%3A1%7D"
        for wrong in ("text", ["no mapping"], {"tags": ["x"]}):
            with pytest.raises(PayloadInvalid):
                body.encode(wrong)

    def test_other_media_types_are_bytes_or_text(self) -> None:
        body = body_of({"type": "string"}, media_type="text/csv; charset=latin-1")
        assert body.media_type == "text/csv; charset=latin-1"
        assert body.encode("ä") == b"\xe4"
        assert body.encode(b"\xff") == b"\xff"
        for wrong in ("€", 5):
            with pytest.raises(PayloadInvalid):
                body.encode(wrong)

    def test_json_is_preferred_then_a_form_then_the_first(self) -> None:
        def chosen(*media_types: str) -> str:
            operation: dict[str, Any] = {"requestBody": {"content": {name: {} for name in media_types}}}
            body = only_callback(discover(raw, documented(operation))).body
            assert body is not None
            return body.media_type

        form = "application/x-www-form-urlencoded"
        assert chosen("multipart/form-data", "text/xml", form, "application/cloudevents+json") == (
            "application/cloudevents+json"
        )
        assert chosen("multipart/form-data", "text/xml", form) == form
        assert chosen("multipart/form-data", "text/xml") == "text/xml"
        assert chosen("*/*") == JSON

    def test_what_has_no_json_form_is_refused(self) -> None:
        with pytest.raises(PayloadInvalid, match="object"):
            body_of({}).encode(object())

    def test_without_jsonschema_bodies_are_written_unchecked_and_the_start_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "jsonschema", None)
        directory = discover(raw, documented(callback_operation(EVENT)))
        body = only_callback(directory).body
        assert body is not None
        assert body.encode({"paid": "anything"}) == b'{"paid":"anything"}'
        assert any("callback_middleware[openapi]" in warning for warning in directory.warnings)

    def test_of_many_problems_the_first_few_are_listed(self) -> None:
        with pytest.raises(PayloadInvalid, match="and 3 more"):
            body_of({"items": {"type": "integer"}}).encode(["x"] * 8)

    def test_a_schema_by_hand_takes_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "jsonschema", None)
        assert schema_body({}).encode([1]) == b"[1]"
        with pytest.raises(ConfigurationError, match=r"callback_middleware\[openapi\]"):
            schema_body({"type": "string"})

    def test_a_charset_that_nobody_knows_is_an_error(self) -> None:
        operation = callback_operation({"type": "string"}, media_type="text/plain; charset=klingon")
        assert "'klingon' is no charset" in errors_of(documented(operation))
