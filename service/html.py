"""Templates of pages, and the page that says what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

templates = Jinja2Templates(Path(__file__).parent / "templates")
TITLES = {400: "That did not work", 404: "There is no such page", 503: "Not at the moment"}


def is_page(request: Request) -> bool:
    """Whether the route answers people: one of its dependencies is marked `is_page`."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    return any(getattr(one.call, "is_page", False) for one in getattr(dependant, "dependencies", ()))


def error_page(request: Request, status: int, message: str, headers: Mapping[str, str] | None) -> HTMLResponse:
    """The page of an error, for whoever is signed in or not: it links to the start alone."""
    context = {"labeler": None, "csrf": "", "open": False, "title": TITLES.get(status, TITLES[400]), "message": message}
    return templates.TemplateResponse(
        request, "error.html", context, status, headers={**(headers or {}), "Cache-Control": "no-store"}
    )
