"""Callback Objects of OpenAPI documents."""

from __future__ import annotations

from typing import Any

import pytest
from documents import EVENT, JSON, callback_operation, documented, errors_of, raw
from invoicing import only, only_callback

from callback_middleware.errors import PayloadInvalid
from callback_middleware.sources.discovery import discover


class TestCallbacks:
    def test_x_callback_says_how_it_is_delivered(self) -> None:
        operation = callback_operation(EVENT) | {"x-callback": {"payload": {"paid": True}, "on": [201], "delay": 3}}
        found = only_callback(discover(raw, documented(operation)))
        assert found.declares_payload
        assert 201 in found.options.on
        assert 200 not in found.options.on
        wrong = callback_operation() | {"x-callback": {"dealy": 3}}
        assert "'dealy'" in errors_of(documented(wrong))

    def test_parameters_are_those_that_can_be_sent(self) -> None:
        parameters = [
            {"in": "header", "name": "X-Trace", "required": True, "schema": {"type": "string", "maxLength": 3}},
            {"in": "query", "name": "page", "schema": {"type": "integer"}},
            {"in": "header", "name": "Content-Type", "required": True, "schema": {}},
            {"in": "cookie", "name": "session", "schema": {}},
        ]
        document = documented(callback_operation(parameters=parameters), expression="{$request.query.url}/{number}")
        item = document["paths"]["/invoices"]["post"]["callbacks"]["event"]["{$request.query.url}/{number}"]
        item["parameters"] = [
            {"in": "path", "name": "number", "required": True, "schema": {"type": "integer"}},
            {"in": "query", "name": "page", "required": True, "schema": {"type": "string"}},
        ]
        found = {one.name: one for one in only_callback(discover(raw, document)).parameters}
        assert {(one.name, one.location, one.required) for one in found.values()} == {
            ("number", "path", True),
            ("page", "query", False),
            ("X-Trace", "header", True),
        }
        check = found["X-Trace"].check
        assert check is not None
        check("abc")
        check(5)
        with pytest.raises(PayloadInvalid, match="'X-Trace'") as caught:
            check("abcd")
        assert "abcd" not in str(caught.value)

    def test_a_cookie_that_is_required_is_an_error(self) -> None:
        parameters = [{"in": "cookie", "name": "session", "required": True, "schema": {}}]
        assert "'session' in cookie" in errors_of(documented(callback_operation(parameters=parameters)))

    @pytest.mark.parametrize(
        ("responses", "sent"),
        [
            ({"200": "Event"}, True),
            ({"201": "Event", "404": "Problem"}, True),
            ({"2XX": "Event"}, True),
            ({200: "Event"}, True),
            ({"200": "Event", "202": "Problem"}, False),
            ({"200": "Problem"}, False),
            ({}, False),
        ],
    )
    def test_the_response_is_the_body_where_both_refer_to_one_schema(self, responses: Any, *, sent: bool) -> None:
        document = documented(callback_operation({"$ref": "#/components/schemas/Event"}))
        document["components"] = {"schemas": {"Event": EVENT, "Problem": EVENT}}
        document["paths"]["/invoices"]["post"]["responses"] = {
            status: {"content": {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
            for status, name in responses.items()
        }
        operation = only(discover(raw, document))
        assert bool(operation.automatic) is sent

    def test_two_schemas_that_look_alike_are_not_one(self) -> None:
        document = documented(callback_operation(EVENT))
        document["paths"]["/invoices"]["post"]["responses"] = {"200": {"content": {JSON: {"schema": EVENT}}}}
        assert not only(discover(raw, document)).automatic
