"""The only place where an error becomes an HTTP status."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match

from core.errors import (
    AppError,
    ConfigError,
    DeadlineExceeded,
    EngineFault,
    Forbidden,
    InvalidRequest,
    MediaDecodeError,
    MediaFetchError,
    MediaTooLarge,
    NotReady,
    Overloaded,
    RateLimited,
    StorageFull,
    Unauthorized,
    UnknownName,
    UnsupportedMedia,
)
from server.schemas.errors import ErrorBody
from server.trace import trace_of


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one class of errors looks over HTTP; `public` false keeps the sentence in the log."""

    status: int
    type: str
    public: bool = True


ERROR_TABLE: dict[type[AppError], ErrorRow] = {
    AppError: ErrorRow(500, "server_error", public=False),
    InvalidRequest: ErrorRow(400, "invalid_request_error"),
    MediaTooLarge: ErrorRow(413, "invalid_request_error"),
    UnsupportedMedia: ErrorRow(415, "invalid_request_error"),
    MediaDecodeError: ErrorRow(422, "invalid_request_error"),
    MediaFetchError: ErrorRow(422, "invalid_request_error"),
    Unauthorized: ErrorRow(401, "authentication_error"),
    Forbidden: ErrorRow(403, "permission_error"),
    UnknownName: ErrorRow(404, "not_found_error"),
    Overloaded: ErrorRow(429, "overloaded_error"),
    RateLimited: ErrorRow(429, "rate_limit_error"),
    NotReady: ErrorRow(503, "server_error"),
    DeadlineExceeded: ErrorRow(504, "server_error"),
    StorageFull: ErrorRow(507, "server_error"),
    EngineFault: ErrorRow(500, "server_error", public=False),
    ConfigError: ErrorRow(500, "server_error", public=False),
}
_ALLOWED = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "too_short": "must hold at least {min_length}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
}
"""What pydantic's findings mean, in the words of a client that never heard of Python."""

MAX_MESSAGE_BYTES = 3000
MAX_PARAM_BYTES = 500
"""With the rest of the body under 4 KB, however much of a request an error wants to quote."""

HIDDEN_SENTENCE = "the server failed on this request; the log has the details under the request id"


def error_row(error_class: type[AppError]) -> ErrorRow:
    """Return the row of the nearest listed ancestor."""
    return next(ERROR_TABLE[ancestor] for ancestor in error_class.__mro__ if ancestor in ERROR_TABLE)


def error_body(error: Exception) -> dict[str, Any]:
    """Return the one error body; anything unexpected is a fault of ours without details."""
    app_error = error if isinstance(error, AppError) else EngineFault(HIDDEN_SENTENCE)
    row = error_row(type(app_error))
    return _body(
        app_error.message if row.public else HIDDEN_SENTENCE,
        row.type,
        param=app_error.param if row.public else None,
        code=app_error.code,
    )


def error_response(error: Exception) -> JSONResponse:
    """Return the HTTP answer for any error."""
    row = error_row(type(error) if isinstance(error, AppError) else EngineFault)
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, NotReady):
        headers["Retry-After"] = "1"
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_code=row.status, headers=headers)


def is_fault(error: Exception) -> bool:
    """Tell whether an error is ours and belongs in the log with its traceback."""
    return not isinstance(error, AppError) or not error_row(type(error)).public


def invalid_request_from(
    error: ValidationError | RequestValidationError, *, tags: frozenset[str] = frozenset()
) -> InvalidRequest:
    """Turn the first finding of pydantic into one sentence that names the field and what is allowed.

    `tags` are union tags that pydantic puts into the path and that clients never wrote; one with a space is none of
    a client's field names, and the others follow the number of an item.
    """
    first = dict(error.errors()[0])
    param = _field_path(first["loc"], tags)
    return InvalidRequest(_finding_sentence(param, first), param=param or None)


def documented_errors() -> dict[int | str, dict[str, Any]]:
    """Return, for the OpenAPI document, every status an endpoint may answer instead of a success."""
    names: dict[int, list[str]] = {}
    for error_class, row in ERROR_TABLE.items():
        names.setdefault(row.status, []).append(error_class.code)
    return {
        status: {"model": ErrorBody, "description": ", ".join(dict.fromkeys(codes))}
        for status, codes in sorted(names.items())
    }


def install_error_handlers(app: FastAPI) -> None:
    """Route every known error of an endpoint through the table."""

    async def answer_app_error(request: Request, error: Exception) -> JSONResponse:
        if is_fault(error):
            trace_of(request).log.fault("request_failed", error)
        trace_of(request).error_code = getattr(error, "code", None)
        return error_response(error)

    async def answer_http_exception(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            error.headers = {"Allow": _allowed_methods(request)}
        sentence, code = _http_sentence(request, error)
        trace_of(request).error_code = code
        body = _body(sentence, "not_found_error" if error.status_code == 404 else "invalid_request_error", code=code)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    async def answer_bad_parameters(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return await answer_app_error(request, invalid_request_from(error))

    app.add_exception_handler(AppError, answer_app_error)
    app.add_exception_handler(RequestValidationError, answer_bad_parameters)
    app.add_exception_handler(HTTPException, answer_http_exception)


def _body(message: str, error_type: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    shown_param = None if param is None else _cut(param, MAX_PARAM_BYTES)
    return {
        "error": {"message": _cut(message, MAX_MESSAGE_BYTES), "type": error_type, "param": shown_param, "code": code}
    }


def _cut(text: str, max_bytes: int) -> str:
    """Return the text, or as much of its start as fits into a JSON string of `max_bytes`."""
    shown, is_cut = text[:max_bytes], len(text) > max_bytes
    while len(json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")) > max_bytes:
        shown, is_cut = shown[: len(shown) * 3 // 4], True
    return f"{shown}…" if is_cut else shown


def _allowed_methods(request: Request) -> str:
    """Return every method that some endpoint of this path takes; the router names those of the first one only."""
    same_path = [route for route in _flat(request.app.routes) if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in same_path for method in getattr(route, "methods", None) or ()}))


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield the routes of included routers, which have no prefix here, in the place of these."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from [route] if inner is None else _flat(inner.routes)


def _http_sentence(request: Request, error: HTTPException) -> tuple[str, str]:
    if error.status_code == 404:
        return f"there is no {request.url.path}; GET /openapi.json lists every endpoint", "not_found"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.url.path} does not take {request.method}; allowed: {allowed}", "method_not_allowed"
    return str(error.detail), HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")


def _field_path(location: tuple[int | str, ...], tags: frozenset[str]) -> str:
    """Return `messages[0].content[1].image_url.url` for pydantic's location of a finding."""
    path = ""
    previous: int | str = ""
    for piece in location:
        if isinstance(piece, int):
            path += f"[{piece}]"
        elif not (piece in tags and (isinstance(previous, int) or " " in piece)):
            path += f".{piece}" if path else piece
        previous = piece
    return path


def _finding_sentence(param: str, finding: dict[str, Any]) -> str:
    context = finding.get("ctx", {})
    match finding["type"]:
        case "missing":
            return f"{param} is required"
        case "extra_forbidden":
            return f"{param} is not a field of this endpoint; remove it"
        case "literal_error":
            return f"{param} must be {context['expected']}, got {_shown_scalar(finding['input'])}"
        case "union_tag_invalid":
            return f"{param} has unknown type {_shown_scalar(context['tag'])}; known types: {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{param} needs a field {context['discriminator']}"
        case "value_error":  # a sentence of ours
            return f"{param or 'the body'} {finding['msg'].removeprefix('Value error, ')}"
    known = _ALLOWED.get(finding["type"])  # a message of pydantic may hold braces of its own
    allowed = known.format_map(context) if known else finding["msg"]
    return f"{param or 'the body'} {allowed}, got {_shown_scalar(finding['input'])}"


def _shown_scalar(value: Any) -> str:
    """Return short scalars as they are and only the kind of anything that may hold a prompt or a file."""
    if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 40):
        return repr(value)
    return {"str": "a long string", "list": "a list", "dict": "an object"}.get(type(value).__name__, "another kind")
