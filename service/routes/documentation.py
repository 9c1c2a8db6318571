"""`GET /docs`: the OpenAPI document as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from service.auth import open_to_all
from service.routes.pages import render

router = APIRouter(tags=["pages"], include_in_schema=False)
DEEPEST = 12  # references inside each other that are written out


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the page shows it.

    Attributes:
        about: paragraphs.
        parameters: name, place, schema and meaning of each.
        request: schema of the body as JSON, empty where there is none.
        answers: status, meaning, and media type and schema (as JSON) of each form; none for errors, which share one.
    """

    method: str
    path: str
    about: list[str]
    parameters: list[tuple[str, str, str, str]]
    request: str
    answers: list[tuple[str, str, list[tuple[str, str]]]]


@router.get("/docs", dependencies=[Depends(open_to_all)], response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """Every route with the schemas of its bodies, as `/openapi.json` has them for programs."""
    document = request.app.openapi()
    error = _written(document["components"]["schemas"]["ErrorBody"], document)
    return render(request, "docs.html", None, operations=list(operations(document)), error=error)


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI document, in its order."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            yield Operation(
                method.upper(),
                path,
                operation.get("description", "").split("\n\n"),
                [
                    (part["name"], part["in"], _written(part["schema"], document), part.get("description", ""))
                    for part in operation.get("parameters", [])
                ],
                "" if body is None else _written(body, document),
                [
                    (status, answer["description"], _forms(answer, document))
                    for status, answer in operation["responses"].items()
                ],
            )


def _forms(answer: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str]]:
    forms = [
        (kind, form.get("schema", {}))
        for kind, form in answer.get("content", {}).items()
        if not form.get("schema", {}).get("$ref", "").endswith("/ErrorBody")
    ]
    return [(kind, _written(schema, document)) for kind, schema in forms]


def _written(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    return json.dumps(_whole(schema, document, 0), indent=2, ensure_ascii=False)


def _whole(part: Any, document: Mapping[str, Any], depth: int) -> Any:
    """A schema with what it refers to in place of the references, and without the titles that pydantic makes up."""
    if isinstance(part, list):
        return [_whole(item, document, depth) for item in part]
    if not isinstance(part, dict):
        return part
    name = part.get("$ref")
    if isinstance(name, str) and depth < DEEPEST:
        return _whole(document["components"]["schemas"][name.rpartition("/")[2]], document, depth + 1)
    return {
        key: _whole(value, document, depth)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str))
    }
