"""The sizes and words GitHub refuses, beyond what its description says. Pure."""

from __future__ import annotations

from fake_github.routing import Unprocessable
from fake_github.state import Json

DESCRIPTION = 140  # characters of a status
CHECK_TEXT = 65_535  # bytes of summary and of text
COMMENT = 262_144  # bytes
ANNOTATIONS = 50  # a request
ANNOTATION_TEXT = 64 * 1024
ACTIONS = 3
_ACTION = {"label": 20, "description": 40, "identifier": 20}
_CONCLUSIONS = ("action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out")


def check_status(body: Json) -> None:
    if body.get("state") not in ("error", "failure", "pending", "success"):
        raise Unprocessable("Validation Failed", _error("Status", "state", "custom"))
    if len(body.get("description") or "") > DESCRIPTION:
        message = f"description is too long (maximum is {DESCRIPTION} characters)"
        raise Unprocessable("Validation Failed", _error("Status", "description", "custom", message))
    if len(body.get("context") or "") > 255:
        raise Unprocessable("Validation Failed", _error("Status", "context", "custom"))
    target = body.get("target_url") or ""
    if target and not target.startswith(("http://", "https://")):
        raise Unprocessable("Validation Failed", _error("Status", "target_url", "custom", "must use http(s) scheme"))


def check_run(body: Json) -> None:
    """What every write of a check run must keep."""
    output = body.get("output") or {}
    for name in ("summary", "text"):
        if len((output.get(name) or "").encode()) > CHECK_TEXT:
            raise Unprocessable(f"Only {CHECK_TEXT} characters are allowed; {name} is too long")
    annotations = output.get("annotations") or []
    if len(annotations) > ANNOTATIONS:
        raise Unprocessable(f"No more than {ANNOTATIONS} items are allowed; {len(annotations)} were supplied.")
    for annotation in annotations:
        _check_annotation(annotation)
    actions = body.get("actions") or []
    if len(actions) > ACTIONS:
        raise Unprocessable(f"No more than {ACTIONS} items are allowed; {len(actions)} were supplied.")
    for action in actions:
        for name, most in _ACTION.items():
            if not 0 < len(action.get(name) or "") <= most:
                raise Unprocessable(f"actions: {name} must have 1 to {most} characters")
    conclusion = body.get("conclusion")
    if conclusion is not None and conclusion not in _CONCLUSIONS:
        raise Unprocessable(f"conclusion {conclusion!r} cannot be set")
    if body.get("status") == "completed" and conclusion is None:
        raise Unprocessable("Validation Failed", "a completed check run needs a conclusion")


def _check_annotation(annotation: Json) -> None:
    if len(annotation.get("title") or "") > 255:
        raise Unprocessable("annotation title is too long (maximum is 255 characters)")
    for name in ("message", "raw_details"):
        if len((annotation.get(name) or "").encode()) > ANNOTATION_TEXT:
            raise Unprocessable(f"annotation {name} is too long (maximum is 64 KB)")
    if annotation.get("start_line", 1) < 1 or annotation.get("end_line", 1) < annotation.get("start_line", 1):
        raise Unprocessable("annotation lines must begin at 1 and end at or after where they begin")
    columns = ("start_column" in annotation) or ("end_column" in annotation)
    if columns and annotation.get("start_line") != annotation.get("end_line"):
        raise Unprocessable("annotation columns need one line")


def check_body(body: Json, what: str) -> str:
    """The text of a comment or an issue."""
    text = body.get("body")
    if not isinstance(text, str) or not text.strip():
        raise Unprocessable("Validation Failed", _error(what, "body", "missing_field"))
    if len(text.encode()) > COMMENT:
        message = "body is too long (maximum is 65536 characters)"  # GitHub names another limit than it keeps
        raise Unprocessable("Validation Failed", _error(what, "body", "unprocessable", message))
    return text


def _error(resource: str, field: str, code: str, message: str = "") -> Json:
    return {"resource": resource, "field": field, "code": code, **({"message": message} if message else {})}
