"""The OpenAPI document says what every route takes and gives, and `/docs` shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.bodies.documented import ANSWERS, FIELDS, RANKING, request_schema
from service.bodies.fields import FORWARDED, IGNORED
from service.engines.protocol import CHAT, COMPLETIONS
from service.errors import STATUSES

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
NO_BODY = {("post", "/sign-out"), ("post", "/api/tasks/{task_id}/undo"), ("post", "/admin/aliases/{alias}/rollback"),
           ("post", "/admin/labelers/{labeler}/enable"), ("post", "/admin/labelers/{labeler}/token"),
           ("put", "/admin/labelers/{labeler}/exclusion")}  # fmt: skip


@pytest.fixture
def document(app_client: Build) -> dict[str, Any]:
    found: dict[str, Any] = app_client().get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_operation_says_what_it_takes_and_gives(document: dict[str, Any]) -> None:
    seen = 0
    for method, path, operation in operations(document):
        seen += 1
        where = f"{method} {path}"
        assert operation["description"], where
        wants_body = method in ("post", "put") and (method, path) not in NO_BODY
        assert wants_body == ("requestBody" in operation) or path == "/v1/embeddings", where
        if wants_body and path != "/v1/embeddings":
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert says_something(schema, document), where
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and (path, status) != ("/health/ready", "503"):
                assert answer["content"] == ERROR, f"{where} {status}"
                assert answer["description"] == STATUSES[int(status)]
            elif status != "303":
                for form in answer["content"].values():
                    assert says_something(form["schema"], document), f"{where} {status}"
    assert seen >= 40


def says_something(schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether a schema tells more than "an object"."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return bool(schema.get("properties")) or schema.get("type") == "string"


def test_answers_that_come_before_a_routes_work_are_told(document: dict[str, Any]) -> None:
    def statuses(method: str, path: str) -> set[int]:
        return {int(status) for status in document["paths"][path][method]["responses"]}

    assert statuses("get", "/v1/models") == {200, 401, 403, 503}
    assert statuses("get", "/v1/models/{model}") == {200, 400, 401, 403, 404, 503}
    assert statuses("post", "/v1/chat/completions") == {200, 400, 401, 403, 404, 413, 429, 502, 503, 504}
    assert statuses("post", "/api/session") == {200, 400, 401, 403, 413, 503}
    assert statuses("get", "/health/live") == {200}
    assert statuses("post", "/sign-out") == {303, 400, 401, 403, 413, 503}
    assert "422" not in str(document["paths"])
    chat, judged = document["paths"]["/v1/chat/completions"]["post"], document["paths"]["/api/tasks/next"]["post"]
    assert (chat["security"], judged["security"]) == ([{"key": []}], [{"session": []}])
    assert [part["name"] for part in judged["parameters"]] == ["X-CSRF-Token"]


def test_every_field_that_is_taken_is_documented_and_no_other() -> None:
    assert set(FIELDS) == frozenset().union(*FORWARDED.values())
    for path, forwarded in FORWARDED.items():
        schema = request_schema(path)
        assert forwarded | set(IGNORED) <= set(schema["properties"])
        assert schema["additionalProperties"] == {"type": "null"}
        assert "chat_template" not in schema["properties"]
    assert set(RANKING) <= set(request_schema(CHAT)["properties"])
    assert request_schema(COMPLETIONS)["properties"]["suffix"] == {"anyOf": [{"enum": [""]}, {"type": "null"}]}
    assert set(ANSWERS) == set(FORWARDED)


def test_the_page_shows_every_route_with_its_schemas_and_runs_nothing(
    app_client: Build, document: dict[str, Any]
) -> None:
    reply = app_client().get("/docs")
    assert reply.status_code == 200
    assert "<script" not in reply.text
    for method, path, operation in operations(document):
        section = re.search(
            rf"<h2><code>{method.upper()} {re.escape(path)}</code></h2>(.*?)</section>", reply.text, re.DOTALL
        )
        assert section is not None, path
        assert all(f"<dt>{status}</dt>" in section[1] for status in operation["responses"])
        assert "$ref" not in section[1]
        if "requestBody" in operation:
            assert "&#34;properties&#34;" in section[1]
    assert "reasoning_effort" in reply.text
