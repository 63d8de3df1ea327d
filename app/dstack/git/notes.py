"""The notes on refs/notes/dstack: a commit's note has, for each run, a line for people and a line for programs.

Pure. `git log --notes=dstack` shows it; the list of runs can be rebuilt from the notes alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

FIELDS = (
    "name",
    "workflow",
    "state",
    "reason",
    "trigger",
    "variables",
    "metrics",
    "verdict",  # of its gate, as far as it has one
    "artifacts",  # path -> digest
    "tags",
    "started_at",
    "finished_at",
    "restarted_from",
    "worktree",  # the run was made from a working tree on top of this commit, not from the commit
)

_MARK = "dstack-run: "
_METRICS_SHOWN = 4


def render(run: Mapping[str, object]) -> str:
    """The two lines of one run. Keys that are not in FIELDS are left out."""
    record = {key: _plain(run[key]) for key in FIELDS if key in run}
    line = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"{_sentence(run)}\n{_MARK}{line}\n"


def render_all(runs: Iterable[Mapping[str, object]]) -> str:
    """The whole note of a commit, a blank line between two runs."""
    return "\n".join(render(run) for run in runs)


def parse(text: str) -> list[dict[str, object]]:
    """The runs a note tells of. Lines of other writers, and damaged ones, are passed over."""
    found: list[dict[str, object]] = []
    for line in text.split("\n"):
        if not line.startswith(_MARK):
            continue
        try:
            record = json.loads(line.removeprefix(_MARK))
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def notes_import(ref: str, notes: Mapping[str, str], *, grows: bool) -> bytes:
    """Notes (sha -> whole text) as a stream for `git fast-import`, one commit on `ref`; `grows` when that exists."""
    lines = [f"commit {ref}\n".encode(), b"committer dstack <dstack@localhost> now\n", _data("runs\n")]
    if grows:
        lines.append(f"from {ref}^0\n".encode())
    for sha, text in notes.items():
        lines += [f"N inline {sha}\n".encode(), _data(text)]
    return b"".join([*lines, b"\ndone\n"])


def _data(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return b"data %d\n%s\n" % (len(raw), raw)


def _sentence(run: Mapping[str, object]) -> str:
    """`train brave-otter-17 succeeded in 42 s: accuracy 0.97, loss 0.1, gate passed -> latest [push]`"""
    workflow, name, state = (_word(run.get(key)) for key in ("workflow", "name", "state"))
    reason = f" ({_word(run.get('reason'))})" if run.get("reason") else ""
    took = _seconds(run.get("started_at"), run.get("finished_at"))
    duration = f" in {took:g} s" if took is not None else ""
    metrics = run.get("metrics")
    shown = list(metrics.items())[:_METRICS_SHOWN] if isinstance(metrics, Mapping) else []
    numbers = ": " + ", ".join(f"{_word(key)} {_number(value)}" for key, value in shown) if shown else ""
    verdict = f", gate {_word(run['verdict']).replace('_', ' ')}" if run.get("verdict") else ""
    tags = run.get("tags")
    tagged = " -> " + ", ".join(_word(tag) for tag in tags) if isinstance(tags, list | tuple) and tags else ""
    source = "working tree" if run.get("worktree") else _word(run.get("trigger"))
    return f"{workflow} {name} {state}{reason}{duration}{numbers}{verdict}{tagged} [{source}]"


def _word(value: object) -> str:
    """Outside text on one line: a line break in it must not begin a line of ours."""
    return "".join(c if c.isprintable() else "?" for c in str(value if value is not None else ""))


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else _word(value)


def _seconds(start: object, end: object) -> float | None:
    try:
        took = datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))
    except (ValueError, TypeError):
        return None
    return round(took.total_seconds(), 1)


def _plain(value: object) -> object:
    """JSON-ready: numbers JSON has no word for become text ("nan", "inf")."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
