"""`dstack runs`: the runs of the server, newest first, or one of them in full."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, quantities, terminal
from dstack.client import Json
from dstack.client.refusal import plain

DEFAULT_LIMIT = 20
DEFAULT_JSON_LIMIT = 1000
MAX_LIMIT = 10_000
NARROW = 100  # columns of a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="show this run in full")
    parser.add_argument("--pr", type=_number, metavar="NUMBER", help="only runs of this pull request")
    for option, help_line in (
        ("repo", "only runs of this repo (OWNER/NAME)"),
        ("workflow", "only runs of this workflow"),
        ("branch", "only runs of this branch"),
        ("state", "only runs in this state, such as failed"),
        ("trigger", "only runs started by this, such as comment or schedule"),
    ):
        parser.add_argument(f"--{option}", default="", help=help_line)
    parser.add_argument(
        "-n", "--limit", type=_limit, help=f"how many (default {DEFAULT_LIMIT}; {DEFAULT_JSON_LIMIT} with --json)"
    )
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    if args.name:
        run = client.run(args.name)
        if args.json:
            output.print_json(run)
        else:
            print_run(run)
        return 0
    filters = {name: getattr(args, name) for name in ("repo", "workflow", "branch", "state", "trigger")}
    filters["pull_request"] = args.pr or ""
    if args.trigger == "pull-request":  # as workflow files and `dstack plan` spell it
        filters["trigger"] = "pull_request"
    limit = args.limit or (DEFAULT_JSON_LIMIT if args.json else DEFAULT_LIMIT)
    runs = list(client.all_runs(limit=limit, **filters))
    if args.json:
        output.print_json(runs)
    elif runs:
        print_runs(runs)
    else:
        terminal.tell("There are no such runs. Start one with `git push` or `dstack run WORKFLOW`.")
    return 0


def print_runs(runs: list[Json]) -> None:
    """Runs as a table, as `dstack runs`, `dstack demo` and `dstack wait` show them."""
    if terminal.width() < NARROW:
        _print_narrow(runs)
    else:
        _print_wide(runs)


def _print_wide(runs: list[Json]) -> None:
    now = output.now()
    rows = [
        [
            run["name"],
            run["state"],
            run["workflow"],
            output.commit(run),
            _where(run),
            quantities.ago(run["created_at"], now),
            quantities.elapsed(run["started_at"], run["finished_at"], now),
            output.headline(run),
            " ".join(_marks(run)) or output.short_reason(run),
        ]
        for run in runs
    ]
    output.print_table(["RUN", "STATE", "WORKFLOW", "COMMIT", "BRANCH", "CREATED", "TOOK", "METRIC", ""], rows)


def _print_narrow(runs: list[Json]) -> None:
    """What came of them goes before when and how long: in a narrow terminal there is room for one of both."""
    rows = [
        [
            run["name"],
            run["state"],
            run["workflow"],
            _pull(run) or run["branch"] or trigger_words(run),
            " ".join(filter(None, [output.headline(run), *_marks(run)])) or output.short_reason(run),
        ]
        for run in runs
    ]
    output.print_table(["RUN", "STATE", "WORKFLOW", "BRANCH", "RESULT"], rows)


def _where(run: Json) -> str:
    """Its pull request and its branch, or what started it."""
    return " ".join(filter(None, [_pull(run), run["branch"]])) or trigger_words(run)


def _pull(run: Json) -> str:
    return f"#{run['pull_request']}" if run.get("pull_request") is not None else ""


def _marks(run: Json) -> list[str]:
    """Tags, and what a green state would hide: a verdict, and that another run did the work."""
    verdict = f"gate {run['verdict']}" if run.get("verdict") in ("failed", "pending") else ""
    same = f"same as {run['same_as']}" if run.get("same_as") else ""
    return [*run["tags"], *filter(None, [verdict, same])]


def trigger_words(run: Json) -> str:
    """Why it exists, as people say it."""
    return {"manual": "by hand"}.get(run["trigger"]) or run["trigger"].replace("_", " ").replace("-", " ")


def print_run(run: Json) -> None:
    """One run as a list of facts, with its jobs."""
    now, on = output.now(), terminal.has_colour()
    facts = [
        ("state", terminal.paint(run["state"], output.STATE_COLOURS.get(run["state"], ""), on=on)),
        ("reason", output.short_reason(run)),
        ("workflow", f"{run['workflow']} of {run['repo']}"),
        ("commit", " ".join(filter(None, [run["sha"], run["branch"] and f"({run['branch']})"]))),
        ("pull", _pull(run)),
        ("trigger", trigger_words(run)),
        ("restart of", run["restarted_from"] or ""),
        ("needs", " ".join(run["needs"])),
        ("created", quantities.ago(run["created_at"], now)),
        ("took", quantities.elapsed(run["started_at"], run["finished_at"], now)),
        ("variables", "  ".join(f"{key}={value}" for key, value in run["variables"].items())),
        ("metrics", "  ".join(f"{key}={quantities.number(float(v))}" for key, v in run["metrics"].items())),
        ("same as", run.get("same_as") or ""),
        ("base", run.get("base_run") or ""),
        ("gate", run.get("gate") or ""),
        ("verdict", output.verdict(run)),
        ("tags", " ".join(run["tags"])),
    ]
    print(terminal.paint(plain(run["name"]), "bold", on=on))
    for label, value in facts:
        if value:
            print(f"  {label:<10} {value if label == 'state' else plain(str(value))}")
    for job in run["jobs"]:
        print_job(job, told=output.short_reason(run))


def print_job(job: Json, *, told: str = "") -> None:
    """One line, and one for each artifact; a reason that was `told` of the run is not repeated."""
    reason = output.short_reason(job)
    words = [job["name"] or "job", job["state"], "" if reason == told else reason]
    words += [f"on {job['runner']}" if job["runner"] else "", f"attempt {job['attempt']}" if job["attempt"] > 1 else ""]
    words += [f"exit code {job['exit_code']}" if job["exit_code"] else "", job.get("message") or ""]
    print("  job        " + plain(", ".join(filter(None, words))))
    for artifact in job["artifacts"]:
        files = f"{artifact['files']} file{'' if artifact['files'] == 1 else 's'}"
        print(f"    {plain(artifact['path'])}  {files}, {quantities.size(artifact['bytes'])}")


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_LIMIT}")
    return int(text)


def _number(text: str) -> str:
    digits = text.removeprefix("#")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a pull request")
    return digits
