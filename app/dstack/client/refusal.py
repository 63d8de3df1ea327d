"""Turns what a server answered into an error of our tree; pure. What a server says is stripped of terminal codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus

from dstack.errors import DstackError, Malformed, TooMany, Unreachable

MAX_MESSAGE = 4000
# Escape sequences first as a whole, then every other control character but newline and tab, then what reorders text.
_TERMINAL_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07|$)|\x9b[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]",
    re.DOTALL,
)


def plain(text: str) -> str:
    """Text of others, safe to print: without escape sequences, control characters and direction marks."""
    return _TERMINAL_CODES.sub("", text)


def read_refusal(status: int, body: bytes, retry_after: float | None, url: str) -> DstackError:
    """The error an answer stands for: by its `error` code, else by its HTTP status."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("message"), str):
        return _from_status(status, url)
    kind = _kind_by_code().get(str(data.get("error"))) or _kind_by_status(status)
    message, hint = plain(data["message"][:MAX_MESSAGE]), plain(str(data.get("hint") or "")[:MAX_MESSAGE])
    if status == 500 and data.get("request_id"):
        hint = f"{hint}\nIts request id: {plain(str(data['request_id'])[:100])}".strip()
    if issubclass(kind, TooMany):
        return TooMany(message, hint, retry_after=int(retry_after or 1))
    return kind(message, hint)


def _from_status(status: int, url: str) -> DstackError:
    try:
        words = HTTPStatus(status).phrase
    except ValueError:
        words = "an unknown status"
    hint = "Is this the address of a dstack server? Look with `dstack config`."
    kind = _kind_by_status(status)
    return kind(f"{url} answered {status} ({words}) and did not say why", "" if status in (401, 403) else hint)


def _all_kinds(kind: type[DstackError] = DstackError) -> Iterator[type[DstackError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _all_kinds(child)


def _kind_by_code() -> dict[str, type[DstackError]]:
    """A class without a code of its own is some room's special case of its parent: a server never means that one."""
    return {kind.code: kind for kind in _all_kinds() if "code" in vars(kind)}


def _kind_by_status(status: int) -> type[DstackError]:
    if status in (502, 504):
        return Unreachable
    fallback = DstackError if status >= 500 else Malformed  # a server that is unwell may be better later
    return next((kind for kind in _all_kinds() if kind.status == status and kind is not Unreachable), fallback)
