"""Errors over HTTP: OpenAI's JSON shape everywhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from service.html import error_page, is_page
from training.artifacts.errors import UserError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}

STATUSES = {
    400: "the request is wrong; the message says where",
    401: "no valid key or session",
    403: "the key or session may not do this, or the address of the request is not one of the service's",
    404: "what is named does not exist",
    409: "somebody else changed it meanwhile, or it is there already",
    410: "the task has expired",
    413: "the body is too large",
    429: "an engine takes no more requests at the moment",
    502: "an engine failed, or gave an answer that cannot be read",
    503: "an engine or the database is down, starting or busy: try again after the seconds of `Retry-After`",
    504: "an engine did not answer in time",
}

# A database that is locked, gone, or has no free connection; what else fails there is a bug.
STORE_UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)
LONGEST_MESSAGE = 2000  # characters: names that a caller gave are quoted
log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: HTTP status.
        message: one sentence for the caller, with the fix.
        param: the field at fault.
        code: a short word that programs can test, such as `model_not_found`.
        headers: headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers


class ErrorDetail(BaseModel):
    message: str = Field(description="one sentence, with the fix")
    type: str = Field(description="the class of the status, as OpenAI names it")
    param: str | None = Field(None, description="the field at fault")
    code: str | None = Field(None, description="a short word for programs")


class ErrorBody(BaseModel):
    """What every answer but a success holds."""

    error: ErrorDetail


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route, for its documentation: the statuses that its own work ends with.

    Those of keys, sessions, bodies and parameters are added to every route that has them, see `openapi`.
    """
    return {status: {"model": ErrorBody, "description": STATUSES[status]} for status in statuses}


def of_engines() -> dict[int | str, dict[str, Any]]:
    """`error_answers` of a route whose work an engine does."""
    return error_answers(404, 429, 502, 503, 504)


class NotFound(UserError):
    """What was named does not exist: 404 over HTTP."""


class Conflict(UserError):
    """Somebody else changed it meanwhile, or it exists already: 409 over HTTP."""


def detail(status: int, message: str, param: str | None = None, code: str | None = None) -> ErrorDetail:
    """OpenAI's error object. What no UTF-8 can hold, such as half an emoji that the caller sent, becomes `?`; of long
    texts the caller knows the rest."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return ErrorDetail(
        message=_shortened(message), type=kind, param=None if param is None else _shortened(param), code=code
    )


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error's body, see `detail`."""
    return ErrorBody(error=detail(status, message, param, code)).model_dump()


def _shortened(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"


def answer(error: ApiError) -> JSONResponse:
    return JSONResponse(body(error.status, error.message, error.param, error.code), error.status, error.headers)


def install(app: FastAPI) -> None:
    """Give every kind of failure the same shape; on a page, the look of a page."""

    def respond(request: Request, error: ApiError) -> Response:
        if is_page(request):
            return error_page(request, error.status, _shortened(error.message), error.headers)
        return answer(error)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return respond(request, error)

    @app.exception_handler(NotFound)
    async def not_found(request: Request, error: NotFound) -> Response:
        return respond(request, ApiError(404, str(error), code="not_found"))

    @app.exception_handler(Conflict)
    async def conflict(request: Request, error: Conflict) -> Response:
        return respond(request, ApiError(409, str(error), code="conflict"))

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        return respond(request, ApiError(400, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return respond(request, ApiError(400, message, param=where or None, code="invalid_value"))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code < 400:  # a redirect, which has not failed
            return Response(status_code=error.status_code, headers=error.headers)
        return respond(request, ApiError(error.status_code, str(error.detail), headers=error.headers))

    @app.exception_handler(DataError)
    async def unstorable(request: Request, __: DataError) -> Response:
        # PostgreSQL takes no NUL character in text.
        return respond(
            request, ApiError(400, "a value cannot be stored: remove control characters", code="invalid_value")
        )

    @app.exception_handler(IntegrityError)
    async def overtaken(request: Request, __: IntegrityError) -> Response:
        # Two requests at once looked, found nothing, and added the same.
        return respond(
            request, ApiError(409, "another request did the same at the same time: look again", code="conflict")
        )

    @app.exception_handler(RecursionError)
    async def too_deep(request: Request, __: RecursionError) -> Response:
        # JSON can be read a little deeper than it can be walked through and written again.
        log.warning("%s %s: nested too deeply", request.method, request.url.path)
        return respond(request, ApiError(400, "the body is nested too deeply", code="invalid_json"))

    for unavailable in STORE_UNAVAILABLE:

        @app.exception_handler(unavailable)
        async def store_unavailable(request: Request, error: Exception) -> Response:
            log.warning("the store does not answer: %s", str(getattr(error, "orig", error)).strip().splitlines()[:1])
            message = "the service's database is busy or cannot be reached: try again"
            return respond(request, ApiError(503, message, code="store_unavailable", headers={"Retry-After": "5"}))

    @app.exception_handler(Exception)
    async def bug(request: Request, __: Exception) -> Response:
        return respond(request, ApiError(500, "the service failed; its log has the traceback"))
