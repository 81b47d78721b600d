"""The names that documented requests may carry."""

from __future__ import annotations

from typing import Any

import pytest
from documents import JSON, callback_operation, documented, raw

from callback_middleware.sources.discovery import discover


class TestNames:
    @staticmethod
    def warnings(expression: str, *, schema: Any = None, parameters: Any = ()) -> tuple[str, ...]:
        document = documented(callback_operation(), expression="{$request.query.url}" + expression)
        item = document["paths"]["/invoices"]
        item["parameters"] = [{"$ref": "#/components/parameters/Shared"}, *parameters]
        if schema is not None:
            item["post"]["requestBody"] = {"content": {JSON: {"schema": schema}}}
        document["components"] = {
            "parameters": {"Shared": {"in": "header", "name": "X-Shared", "schema": {"default": "d"}}},
            "schemas": {"Base": {"properties": {"base": {}}}, "Open": {"additionalProperties": True}},
        }
        return tuple(discover(raw, document).warnings)

    def test_parameters_of_the_path_and_the_operation_are_known(self) -> None:
        assert not self.warnings("/{$request.header.x-shared}")
        assert self.warnings("/{$request.header.x-unknown}")
        assert self.warnings("/{$request.query.unknown}")

    def test_members_of_the_body_are_known_by_its_schema(self) -> None:
        schema = {"allOf": [{"$ref": "#/components/schemas/Base"}], "properties": {"own": {}}}
        assert not self.warnings("/{$request.body#/base}", schema=schema)
        assert not self.warnings("/{$request.body#/own}", schema=schema)
        assert self.warnings("/{$request.body#/other}", schema=schema)

    @pytest.mark.parametrize(
        "schema",
        [
            {"$ref": "#/components/schemas/Open"},
            {"type": "object"},
            {"type": "array", "items": {}},
            {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
            {"anyOf": [{"properties": {"a": {}}}, {"$ref": "#/components/schemas/Open"}]},
        ],
    )
    def test_a_body_with_other_members_is_unknown(self, schema: Any) -> None:
        assert not self.warnings("/{$request.body#/other}", schema=schema)

    def test_a_query_that_is_an_object_is_unknown(self) -> None:
        exploded = {"in": "query", "name": "filter", "schema": {"type": "object"}}
        assert not self.warnings("/{$request.query.unknown}", parameters=[exploded])
