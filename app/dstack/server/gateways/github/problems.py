"""Decides what an answer of GitHub that is no success means to us. Pure: no vendor type, no clock of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from dstack.errors import ForgeBusy, ForgeDown, ForgeFailed, ForgeRefused, NotConnected

WAIT_S = 60.0  # GitHub's own advice where it names no time
_LONGEST_WAIT_S = 3600.0  # the limits are by the hour
_SKEW_S = 30.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def failure(what: str, status: int, headers: Mapping[str, str], body: Any, now: float) -> ForgeFailed:
    """The error for an answer with `status`; `headers` by lower-case name, `body` as read from JSON (None: was none),
    `now` our time, `what` the call as people may see it."""
    said = _said(body)
    message = f"GitHub answered {status} to {what}" + (f": {said}" if said else "")
    if status >= 500:
        return ForgeDown(message, "GitHub has trouble; it is tried again")
    if status in (403, 429) and _is_limit(status, headers, said):
        return ForgeBusy(message, "the rate limit of the App is used up", retry_after=_wait(headers, now))
    if status == 403 and "suspended" in said.lower():
        return NotConnected(message, "the owner of the account can unsuspend the App in its settings")
    return ForgeRefused(message, _hint(status, headers, now), answer=status)


def answered_at(headers: Mapping[str, str]) -> float | None:
    """GitHub's clock when it answered, in seconds since the epoch; None where it does not say."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None


def _said(body: Any) -> str:
    """GitHub's own words, on one line, and not endless."""
    if not isinstance(body, Mapping):
        return ""
    errors = body.get("errors")
    details = [_detail(error) for error in errors[:3]] if isinstance(errors, list) else []
    words = [str(body.get("message") or ""), *details]
    return _CONTROL.sub(" ", "; ".join(word for word in words if word))[:400]


def _detail(error: Any) -> str:
    if not isinstance(error, Mapping):
        return str(error)
    return str(error.get("message") or " ".join(str(error[key]) for key in ("field", "code") if key in error))


def _is_limit(status: int, headers: Mapping[str, str], said: str) -> bool:
    is_used_up = headers.get("x-ratelimit-remaining") == "0"
    words = said.lower()
    return status == 429 or "retry-after" in headers or is_used_up or "rate limit" in words or "abuse" in words


def _wait(headers: Mapping[str, str], now: float) -> float:
    """Seconds to wait. The reset is a time of GitHub's clock, so it is held against that."""
    asked = headers.get("retry-after", "")
    if asked.strip().isdigit():
        return _bounded(float(asked))
    if asked:
        at = answered_at({"date": asked})
        return WAIT_S if at is None else _bounded(at - (answered_at(headers) or now))
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.strip().isdigit():
        return _bounded(float(reset) - (answered_at(headers) or now))
    return WAIT_S


def _bounded(seconds: float) -> float:
    return min(max(seconds, 1.0), _LONGEST_WAIT_S)


def _hint(status: int, headers: Mapping[str, str], now: float) -> str:
    if status == 401:
        skew = (answered_at(headers) or now) - now
        if abs(skew) > _SKEW_S:
            return f"this machine's clock differs from GitHub's by {abs(skew):.0f} s: set it"
        return "GitHub does not take the App's key: `dstack github doctor` looks closer"
    if status == 403:
        needed = _CONTROL.sub(" ", headers.get("x-accepted-github-permissions", ""))[:100]
        return f"the App needs the permission {needed}" if needed else "the App lacks a permission for this"
    if status == 404:
        return "it is gone or has another name, or the App is not installed there"
    return ""
