"""Prints what commands have found: tables with colours for people, JSON for programs; only data goes to stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from dstack.cli import quantities, terminal
from dstack.cli.table import GAP, lay_out
from dstack.client import Json
from dstack.client.refusal import plain
from dstack.errors import Usage

STATE_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "stopped": "yellow",
    "skipped": "dim",
    "running": "cyan",
    "preparing": "cyan",
    "saving": "cyan",
    "online": "green",
    "offline": "red",
    "processed": "green",
    "ignored": "dim",
    "draining": "yellow",
}


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, with keys that stay as they are")


def print_json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=not terminal.can_show("é…漢")))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A table as wide as the terminal. States are coloured; a header is dim."""
    on = terminal.has_colour()
    ellipsis = "…" if terminal.can_show("…") else "..."
    clean = [[plain(cell) for cell in row] for row in rows]
    laid = lay_out(headers, clean, terminal.width(), right=right, ellipsis=ellipsis)
    for index, cells in enumerate(laid):
        painted = [
            terminal.paint(cell, "dim" if index == 0 else STATE_COLOURS.get(cell.strip(), ""), on=on) for cell in cells
        ]
        print((" " * GAP).join(painted).rstrip())


def print_listing(args: argparse.Namespace, data: list[Json], headers: Sequence[str], rows: list[list[str]]) -> None:
    """A listing in the form that was asked for."""
    if args.json:
        print_json(data)
    else:
        print_table(headers, rows)


def short_reason(run: Json) -> str:
    """Why it ended or waits: one of the fixed reasons as words, or the server's sentence as it is."""
    reason = plain(str(run.get("reason") or ""))
    return reason if " " in reason else reason.replace("_", " ")


def short_sha(sha: str | None) -> str:
    return (sha or "")[:8]


def commit(run: Json) -> str:
    """The commit, short; `+` marks a working tree on top of it."""
    return f"{short_sha(run['parent'])}+" if run.get("parent") else short_sha(run["sha"])


def headline(run: Json) -> str:
    """The metric shown first, against the base or else the run before: `accuracy 0.953 (+0.012)`."""
    metrics = run.get("metrics") or {}
    name = run.get("headline") if run.get("headline") in metrics else next(iter(metrics), None)
    if name is None:
        return ""
    before = (run.get("base_metrics" if run.get("base_run") else "previous_metrics") or {}).get(name)
    delta = "" if before is None else f" ({quantities.signed(float(metrics[name]) - float(before))})"
    return f"{plain(str(name))} {quantities.number(float(metrics[name]))}{delta}"


def is_unjudged(run: Json) -> bool:
    """Whether its gate is still to be judged, which follows its end at once."""
    return run["state"] == "succeeded" and bool(run.get("gate")) and not run.get("verdict")


def verdict(run: Json) -> str:
    """What its gate says: `passed: accuracy 0.934 >= base 0.922 - 0.01`; empty where nothing is to be said."""
    if not run.get("verdict"):
        return "not judged yet" if is_unjudged(run) else ""
    why = plain(str(run.get("verdict_why") or ""))
    return plain(str(run["verdict"])).replace("_", " ") + (f": {why}" if why else "")


def now() -> datetime:
    return datetime.now(UTC)


def warn(text: str) -> None:
    on = terminal.has_colour(sys.stderr)
    terminal.tell(terminal.paint("warning: ", "yellow", on=on) + plain(text))


def require_name(args: argparse.Namespace, *actions: str) -> None:
    """Raise Usage when the action needs a name and has none, or has one and needs none."""
    if args.action in actions and not args.name:
        raise Usage(f"`{args.command} {args.action}` needs a name", f"dstack {args.command} {args.action} NAME")
    if args.action not in actions and args.name:
        raise Usage(f"`{args.command} {args.action}` takes no name: {args.name!r}")
