"""Turns errors into answers: `{error, message, hint, request_id}`, never a stack."""

from __future__ import annotations

import logging
import secrets

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dstack.errors import DstackError, NotSignedIn, OffsetMismatch, TooMany

log = logging.getLogger(__name__)


def request_id(request: Request) -> str:
    """The id of this request, made at first use; it stands in the log and in the answer."""
    if not hasattr(request.state, "request_id"):
        request.state.request_id = secrets.token_hex(6)
    return str(request.state.request_id)


def answer_problem(request: Request, error: Exception) -> Response:
    """For an error of ours: its own status, code and hint."""
    assert isinstance(error, DstackError)
    headers = {}
    body: dict[str, object] = {
        "error": error.code,
        "message": error.message,
        "hint": error.hint,
        "request_id": request_id(request),
    }
    if isinstance(error, OffsetMismatch):
        body["expected"] = error.expected
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 503:
        headers["Retry-After"] = "2"
    if isinstance(error, NotSignedIn):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, error.status, headers)


def answer_http(request: Request, error: Exception) -> Response:
    """For the framework's own refusals (no such route, wrong method)."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "wrong_method", 413: "too_large"}.get(error.status_code, "error")
    body = {"error": code, "message": error.detail, "hint": "", "request_id": request_id(request)}
    return JSONResponse(body, error.status_code, dict(error.headers or {}))


def answer_crash(request: Request, error: Exception) -> Response:
    """For a fault of the server: logged with its stack, answered without."""
    log.error("a request broke", exc_info=error, extra={"action": "request", "request_id": request_id(request)})
    body = {
        "error": "internal",
        "message": "the server failed to answer this; its log has the details under this request id",
        "hint": "",
        "request_id": request_id(request),
    }
    return JSONResponse(body, 500)
