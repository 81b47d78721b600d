"""Operations of OpenAPI documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import EVENT, JSON, callback_operation, documented, errors_of, raw
from invoicing import only, only_callback
from probing import listed, request

from callback_middleware.errors import DocumentError, PayloadInvalid
from callback_middleware.sources.discovery import discover


class TestOperations:
    async def test_a_document_alone_tells_the_operation_before_anything_has_run(self) -> None:
        directory = discover(raw, documented(callback_operation()))
        assert listed(directory) == {"POST /invoices": ["event"]}
        assert only(directory).handler_sends is None
        seen = await request(raw, directory, "POST", "/invoices")
        assert seen.received == [only(directory)]
        assert seen.rematched is only(directory)
        for method, path in (("GET", "/invoices"), ("POST", "/invoices/"), ("POST", "/")):
            seen = await request(raw, directory, method, path)
            assert (seen.received, seen.rematched) == ([None], None)

    def test_no_routes_and_no_document_is_an_empty_directory(self) -> None:
        directory = discover(raw, None)
        assert (directory.operations, directory.warnings) == ((), ())
        assert directory.find({"method": "GET", "path": "/"}) is None
        assert directory.rematch({"method": "GET", "path": "/"}) is None

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "api.yaml"
        path.write_text(
            "openapi: 3.1.0\npaths:\n  /x:\n    get:\n      callbacks:\n        event:\n"
            "          '{$request.query.url}':\n            post:\n"
            "              x-callback: {on: 2XX}\n              responses: {200: {description: ok}}\n"
            "      responses: {200: {description: ok}}\n"
        )
        assert listed(discover(raw, path)) == {"GET /x": ["event"]}

    def test_an_unreadable_document_is_an_error_of_its_own(self) -> None:
        with pytest.raises(DocumentError, match="Swagger"):
            discover(raw, {"swagger": "2.0"})

    async def test_concrete_paths_go_before_templated_ones_whatever_they_document(self) -> None:
        document = documented(callback_operation())
        document["paths"] = {"/{id}": document["paths"].pop("/invoices"), "/health": {"post": {"responses": {}}}}
        directory = discover(raw, document)
        assert directory.find({"method": "POST", "path": "/health"}) is None
        assert directory.find({"method": "POST", "path": "/7"}) is only(directory)

    def test_path_parameters_are_read_from_the_path_and_decoded(self) -> None:
        document = documented(callback_operation())
        document["paths"]["/{tenant}/invoices/{id}.json"] = document["paths"].pop("/invoices")
        directory = discover(raw, document)
        operation = only(directory)
        scope: dict[str, Any] = {
            "method": "POST",
            "path": "/ä/invoices/a/b.json",
            "raw_path": b"/%C3%A4/invoices/a%2Fb.json",
        }
        assert directory.find(scope) is operation
        assert directory.path_params(scope, operation) == {"tenant": "ä", "id": "a/b"}
        routed = {**scope, "path_params": {"id": 5}}
        assert directory.path_params(routed, operation) == {"tenant": "ä", "id": 5}, "a router's own value is better"

    @pytest.mark.parametrize("place", ["document", "path", "operation"])
    def test_servers_have_base_paths_at_three_places(self, place: str) -> None:
        document = documented(callback_operation())
        item = document["paths"]["/invoices"]
        owner = {"document": document, "path": item, "operation": item["post"]}[place]
        owner["servers"] = [{"url": "https://api.example/v1/"}, {"url": "/v2"}]
        if place != "document":
            document["servers"] = [{"url": "/ignored"}]
        directory = discover(raw, document)
        for path in ("/v1/invoices", "/v2/invoices", "/invoices"):
            assert directory.find({"method": "POST", "path": path}) is only(directory)
        for path in ("/v3/invoices", "/ignored/invoices", "/v1"):
            assert directory.find({"method": "POST", "path": path}) is None

    def test_servers_of_one_operation_are_not_those_of_another(self) -> None:
        document = documented(callback_operation(), servers=[{"url": "/v1"}])
        other = documented(callback_operation())["paths"]["/invoices"]["post"]
        document["paths"]["/other"] = {"post": {**other, "servers": [{"url": "/v2"}]}}
        directory = discover(raw, document)
        found = {path: directory.find({"method": "POST", "path": path}) for path in ("/v1/other", "/v2/invoices")}
        assert found == {"/v1/other": None, "/v2/invoices": None}
        assert str(directory.find({"method": "POST", "path": "/v2/other"})) == "POST /other"

    def test_variables_of_servers_have_every_value_that_they_may_have(self) -> None:
        variables = {"version": {"default": "v1", "enum": ["v1", "v2"]}, "host": {"default": "api"}}
        servers = [{"url": "https://{host}.example/{version}", "variables": variables}]
        directory = discover(raw, documented(callback_operation(), servers=servers))
        for path in ("/v1/invoices", "/v2/invoices"):
            assert directory.find({"method": "POST", "path": path}) is only(directory)

    @pytest.mark.parametrize("path", ["/root/invoices", "/invoices", "/root/v1/invoices"])
    def test_the_root_path_may_be_in_the_path(self, path: str) -> None:
        directory = discover(raw, documented(callback_operation(), servers=[{"url": "/v1"}]))
        assert directory.find({"method": "POST", "path": path, "root_path": "/root"}) is only(directory)

    def test_methods_of_3_2_count(self) -> None:
        document = documented(callback_operation(), version="3.2.0")
        item = document["paths"]["/invoices"]
        item["query"] = item.pop("post")
        item["additionalOperations"] = {"COPY": item["query"]}
        directory = discover(raw, document)
        assert listed(directory) == {"QUERY /invoices": ["event"], "COPY /invoices": ["event"]}

    def test_path_items_callbacks_and_their_path_items_may_be_references(self) -> None:
        components = {
            "pathItems": {
                "Invoices": {"post": {"callbacks": {"event": {"$ref": "#/components/callbacks/Event"}}}},
                "Receiver": {"put": {"requestBody": {"$ref": "#/components/requestBodies/Event"}}},
            },
            "callbacks": {"Event": {"{$request.query.url}": {"$ref": "#/components/pathItems/Receiver"}, "x-note": {}}},
            "requestBodies": {"Event": {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Event"}}}}},
            "schemas": {"Event": EVENT},
        }
        paths = {"/invoices": {"$ref": "#/components/pathItems/Invoices"}}
        found = only_callback(discover(raw, {"openapi": "3.1.0", "paths": paths, "components": components}))
        assert (found.name, found.method, found.expression) == ("event", "PUT", "{$request.query.url}")
        assert found.body is not None
        assert not found.body.required
        with pytest.raises(PayloadInvalid, match="paid"):
            found.body.encode({})


class TestErrors:
    def test_everything_that_is_wrong_is_said_at_once_with_its_pointer(self) -> None:
        document = documented(callback_operation({"$ref": "other.yaml#/Event"}))
        document["paths"]["/b/{id}"] = {"$ref": "#/components/pathItems/Missing"}
        document["paths"]["/c"] = {
            "get": {"callbacks": {"event": {"{$request.query.}": {"post": callback_operation()}}}}
        }
        complaints = errors_of(document)
        pointer = "#/paths/~1invoices/post/callbacks/event/{$request.query.url}/post"
        assert f"POST /invoices → event ({pointer})" in complaints
        assert (
            f"{pointer}/requestBody/content/application~1json/schema: $ref 'other.yaml#/Event' leads to" in complaints
        )
        assert "/b/{id} (#/paths/~1b~1{id})" in complaints
        assert "GET /c → event (#/paths/~1c/get/callbacks/event/{$request.query.}/post)" in complaints

    def test_a_remote_reference_deep_in_a_schema_is_found_at_start(self) -> None:
        components = {"Event": {"properties": {"x": {"items": {"$ref": "https://example.com/x.json"}}}}}
        document = documented(
            callback_operation({"$ref": "#/components/schemas/Event"}), components={"schemas": components}
        )
        assert "#/components/schemas/Event/properties/x/items: $ref 'https://example.com/x.json'" in errors_of(document)

    def test_what_is_of_the_wrong_kind_is_an_error_and_no_crash(self) -> None:
        wrong: list[Any] = [
            "text",
            {"post": "text"},
            {"post": {"callbacks": []}},
            {"post": {"callbacks": {"e": "text"}}},
        ]
        for path_item in wrong:
            assert "#/paths/~1x" in errors_of({"openapi": "3.1.0", "paths": {"/x": path_item}})
        assert discover(raw, {"openapi": "3.1.0", "paths": {"/x": None}}).operations == ()

    def test_a_schema_that_is_none_is_an_error(self) -> None:
        assert "no JSON Schema" in errors_of(documented(callback_operation({"type": "nonsense"})))

    def test_files_cannot_be_sent(self) -> None:
        operation = callback_operation({"type": "object"}, media_type="multipart/form-data")
        assert "multipart/form-data" in errors_of(documented(operation))

    def test_a_misspelt_name_is_told(self) -> None:
        document = documented(callback_operation(), expression="{$urll}")
        assert "url" in errors_of(document)
        warnings = discover(raw, documented(callback_operation(), expression="{$request.query.urll}")).warnings
        assert warnings[0].startswith("POST /invoices → event: ")
