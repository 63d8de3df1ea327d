"""Check runs of GitHub: made, changed, found again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dstack.errors import ForgeFailed
from dstack.server.gateways.forge_facts import Place
from dstack.server.gateways.forge_writes import Annotation, CheckWrite
from dstack.server.gateways.github.addresses import repo
from dstack.server.gateways.github.answers import Params
from dstack.server.gateways.github.calls import Calls
from dstack.server.gateways.github.reading import get, is_ours, need_number, text

log = logging.getLogger(__name__)

AT_ONCE = 50  # annotations in one call; those of further calls are added


def create_check(calls: Calls, place: Place, check: CheckWrite) -> str:
    """Annotations beyond the first 50 follow in calls of their own. Where one of these fails the check stands without
    them, and the log says so: raising would lose the id of what was made."""
    first, rest = check.annotations[:AT_ONCE], check.annotations[AT_ONCE:]
    body = {**_body(check, first), "head_sha": check.sha}
    made = str(need_number(calls.at(place.installation, "POST", repo(place, "check-runs"), body=body).data, "id"))
    try:
        _annotate(calls, place, made, check, rest)
    except ForgeFailed as error:
        log.warning("check %s lacks annotations: %s", check.name, error.message, extra={"action": "github"})
    return made


def update_check(
    calls: Calls, place: Place, check_id: str, check: CheckWrite, new_annotations: Sequence[Annotation]
) -> None:
    body = _body(check, new_annotations[:AT_ONCE])
    calls.at(place.installation, "PATCH", repo(place, "check-runs", check_id), body=body)
    _annotate(calls, place, check_id, check, new_annotations[AT_ONCE:])


def find_check(calls: Calls, place: Place, sha: str, external_id: str) -> str | None:
    path = repo(place, "commits", sha, "check-runs")
    asked: Params = {"app_id": calls.app_id, "filter": "all"}
    for one in calls.listed(place.installation, path, asked, key="check_runs"):
        if text(one, "external_id") == external_id and (get(one, "app") is None or is_ours(one, calls.app_id, "")):
            return str(need_number(one, "id"))
    return None


def count_annotations(calls: Calls, place: Place, check_id: str) -> int:
    return sum(1 for _ in calls.listed(place.installation, repo(place, "check-runs", check_id, "annotations")))


def _annotate(calls: Calls, place: Place, check_id: str, check: CheckWrite, rest: Sequence[Annotation]) -> None:
    for start in range(0, len(rest), AT_ONCE):
        body = {"output": _output(check, rest[start : start + AT_ONCE])}
        calls.at(place.installation, "PATCH", repo(place, "check-runs", check_id), body=body)


def _body(check: CheckWrite, annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Given a conclusion, GitHub wants no other status than completed."""
    body: dict[str, Any] = {
        "name": check.name,
        "external_id": check.external_id,
        "status": "completed" if check.conclusion else check.status,
        "output": _output(check, annotations),
        "actions": [
            {"label": button.label, "description": button.description, "identifier": button.identifier}
            for button in check.buttons
        ],
    }
    more = {
        "details_url": check.url,
        "conclusion": check.conclusion,
        "started_at": _time(check.started_at),
        "completed_at": _time(check.completed_at) if check.conclusion else "",
    }
    return body | {name: value for name, value in more.items() if value}


def _output(check: CheckWrite, annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Title and summary go with every call: GitHub asks for them, and would else keep old ones."""
    output: dict[str, Any] = {"title": check.title, "summary": check.summary, "text": check.text}
    if annotations:
        output["annotations"] = [_annotation(one) for one in annotations]
    return output


def _annotation(one: Annotation) -> dict[str, Any]:
    body = {
        "path": one.path,
        "start_line": max(one.line, 1),
        "end_line": max(one.line, 1),
        "annotation_level": one.level,
        "message": one.message,
    }
    return body | ({"title": one.title} if one.title else {})


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
