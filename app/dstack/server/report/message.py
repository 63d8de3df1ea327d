"""Writes what a receiver of somebody's own is told of a run's end: in Slack's form, or as JSON."""

from __future__ import annotations

import re
from typing import Any, Final

from dstack.server.models import Run
from dstack.server.report.ends import FAILED, RECOVERED, SUCCEEDED
from dstack.server.report.markdown import readable
from dstack.server.report.status_words import headline, run_duration
from dstack.server.report.words import VERDICTS, why
from dstack.wire.api import RunView
from dstack.wire.codec import to_dict

_ICONS: Final = {FAILED: "❌", RECOVERED: "💚", SUCCEEDED: "✅"}
_LONGEST: Final = 700  # characters of a piece; Slack takes 3 000 of a block


def slack_message(run: Run, repo: str, end: str, base: Run | None, url: str) -> dict[str, Any]:
    """`text` is what a notification shows, `blocks` the message. Nothing in it mentions anybody."""
    where = f"{repo} · {run.branch}" if run.branch else repo
    if run.pull_request is not None:
        where = f"{repo} #{run.pull_request}"
    page = f"{url}/runs/{run.name}"
    first = f"{_ICONS[end]} <{page}|{_slack(run.workflow)}> {end} on {_slack(where)}"
    told = [part for part in (_slack(_outcome(run, base)), _slack(_commit(run))) if part]
    return {
        "text": f"{_ICONS[end]} {_slack(run.workflow)} {end} on {_slack(where)}",
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join([first, *told])}}],
    }


def json_message(view: RunView, end: str, url: str) -> dict[str, Any]:
    """The run as the API shows it (its verdict with it), what its end means (`event`), and its page (`url`)."""
    return {"event": end, "url": f"{url}/runs/{view.name}", "run": to_dict(view)}


def _outcome(run: Run, base: Run | None) -> str:
    parts = [run_duration(run), headline(run, run.metrics, base.metrics if base is not None else {})]
    if run.verdict is not None:
        parts.append(VERDICTS[run.verdict] + (f": {run.verdict_why}" if run.verdict_why else ""))
    parts.append(why(run.reason, run.message))
    return " · ".join(part for part in parts if part)


def _commit(run: Run) -> str:
    by = f" ({run.author})" if run.author else ""
    return f"{run.sha[:7]} {run.subject}{by}".strip()


def _slack(text: str) -> str:
    """One line; Slack reads three characters as markup, and mentions (`<!channel>`) are made of them."""
    line = " ".join(readable(text).split())
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped if len(escaped) <= _LONGEST else re.sub("&[a-z]{0,3}$", "", escaped[:_LONGEST]) + "…"
