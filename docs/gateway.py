"""The service's settings, routes, metrics and error codes, from the code that has them."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo

from docs.tables import table
from service import app
from service import metrics as service_metrics
from service.auth import access_of
from service.settings import Settings, variable_of

SERVICE = Path(app.__file__).parent


def settings() -> str:
    rows = [
        (f"`{variable_of(name)}`", _default(field), f"`{_type(field)}`", field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return table(("variable", "default", "type", "meaning"), rows)


def routes() -> str:
    rows = []
    for route in app.create_app(Settings.model_validate({"database": "sqlite://"})).routes:
        methods = ", ".join(sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD"}))
        if not methods:
            continue  # the head of a route that is listed
        about = inspect.getdoc(route.endpoint) if isinstance(route, APIRoute) else ""
        first = (about or "").split("\n\n")[0]
        rows.append((methods, f"`{getattr(route, 'path', '')}`", f"`{access_of(route)}`", first))
    return table(("method", "path", "access", "what it does"), rows)


def metrics() -> str:
    rows = []
    for collector in vars(service_metrics).values():
        if not isinstance(collector, MetricWrapperBase | service_metrics.Replaced):
            continue
        for family in collector.describe():
            name = family.name + ("_total" if family.type == "counter" else "")
            rows.append((f"`{name}`", family.type, f"`{', '.join(collector._labelnames)}`", family.documentation))
    return table(("metric", "kind", "labels", "meaning"), rows)


def codes() -> str:
    """Every `code` that an error body may hold, with its statuses and sentences."""
    by_code: dict[str, tuple[set[str], list[str]]] = {}
    for status, message, code in sorted(_api_errors()):
        statuses, messages = by_code.setdefault(code, (set(), []))
        statuses.add(status)
        if message not in messages:
            messages.append(message)
    rows = [(f"`{code}`", ", ".join(sorted(s)), " · ".join(m)) for code, (s, m) in sorted(by_code.items())]
    return table(("code", "status", "what it says"), rows)


def _api_errors() -> Iterator[tuple[str, str, str]]:
    """(status, sentence, code) of every `ApiError(...)` and `errors.body(...)` in the service's source."""
    for path in sorted(SERVICE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = [
            (node.lineno, target.id, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            code = next((k.value for k in node.keywords if k.arg == "code"), None)
            if isinstance(code, ast.Constant) and isinstance(code.value, str) and len(node.args) >= 2:
                message = node.args[1]
                if isinstance(message, ast.Name):
                    before = [row for row in named if row[1] == message.id and row[0] < node.lineno]
                    message = max(before, key=lambda row: row[0])[2] if before else message
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, int):
                        yield str(part.value), _sentence(message), code.value


def _sentence(node: ast.expr) -> str:
    """A message as its readers see it: `…` where a value stands."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "(the reason, in a sentence)"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value) if isinstance(value, list) else value}`"


def _type(field: FieldInfo) -> str:
    kind: Any = field.annotation
    return kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", None) else str(kind)
