"""The OpenAPI document: every route with its bodies, and every status that it answers with."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.auth import SAFE_METHODS, access_of
from service.errors import STATUSES, ErrorBody

ERROR = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}
SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key with the scope that the route names; `python -m service keys add` makes one",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "alignloop_session",
        "description": "a labeler's session, set by `POST /api/session`; the name ends with `_` and the port, and "
        "begins with `__Host-` over https",
    },
}
CSRF = {
    "name": "X-CSRF-Token",
    "in": "header",
    "required": False,
    "description": "`csrf` of `GET /api/session`; pages send it as a form's field instead",
    "schema": {"type": "string"},
}


def install(app: FastAPI) -> None:
    """Have the application describe itself as `document` does."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way of changing it


def document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with what it does not know: access levels, and answers that come before a route's work."""
    written = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    written["components"]["securitySchemes"] = SECURITY
    for name in ("HTTPValidationError", "ValidationError"):  # told in OpenAI's shape instead
        written["components"]["schemas"].pop(name, None)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods:
                _complete(written["paths"][route.path_format][method.lower()], method, access_of(route) or "")
    return written


def _complete(operation: dict[str, Any], method: str, access: str) -> None:
    """Add the access level of one operation and the errors that follow from it. Changes `operation` in place."""
    answers = operation["responses"]
    answers.pop("422", None)
    before = set()
    if access != "open":
        before |= {401, 403, 503}
        operation["security"] = [{"session": []}] if access == "labeler" else [{"key": []}]
        operation["description"] = f"{operation.get('description', '')}\n\nAccess: `{access}`.".strip()
    if access == "labeler" and method not in SAFE_METHODS:
        operation.setdefault("parameters", []).append(CSRF)
    if method not in SAFE_METHODS:
        before |= {400, 403, 413}
    if operation.get("parameters"):
        before.add(400)
    for status in before:
        error = {"description": STATUSES[status], "content": {"application/json": {"schema": ERROR}}}
        answers.setdefault(str(status), error)
    operation["responses"] = dict(sorted(answers.items()))
