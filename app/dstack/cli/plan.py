"""`dstack plan`: says which runs an event would start, and why not the others, from the working tree as it is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dstack.cli import output
from dstack.cli.lint import find_root, read_working_tree
from dstack.errors import ConfigProblems, GitFailed
from dstack.git.run import git
from dstack.language import Event, Project, Selection, close_over_needs, read_project, select
from dstack.wire.states import Trigger

EVENTS = tuple(trigger.value.replace("_", "-") for trigger in Trigger)


class Planned(NamedTuple):
    """A workflow and what an event does with it: `starts`, `runs first` (another needs it) or `no`; with its gate."""

    workflow: str
    answer: str
    why: str
    gate: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workflow", nargs="?", default="", help="only this one: for --event manual and schedule")
    parser.add_argument(
        "--event", choices=(*EVENTS, "pull_request"), default="push", help="what happens (default: push)"
    )
    parser.add_argument(
        "--branch", default="", help="the branch pushed, or that a pull request goes to (default: this)"
    )
    parser.add_argument(
        "--base", default="", metavar="REV", help="compare with this commit (default: what is upstream)"
    )
    parser.add_argument("--tag", default="", help="the Git tag pushed; for tag-moved the tag, as prepare:latest")
    parser.add_argument("--name", default="", help="the name of an event, or the text of a comment")
    output.add_json(parser)


def main(args: argparse.Namespace) -> int:
    root = find_root(Path.cwd())
    files, unreadable = read_working_tree(root)
    project = read_project(files)
    if problems := (*unreadable, *project.problems):
        raise ConfigProblems("\n".join(map(str, problems)), "`dstack lint` checks again.")
    if args.workflow:
        project.workflow(args.workflow)
    planned = plan(project, select(project, event_of(args, root)))
    if args.json:
        output.print_json([entry._asdict() for entry in planned])
    else:
        columns = 4 if any(entry.gate for entry in planned) else 3
        output.print_table(["WORKFLOW", "", "WHY", "GATE"][:columns], [list(entry)[:columns] for entry in planned])
    return 0


def plan(project: Project, selections: Sequence[Selection]) -> list[Planned]:
    """The answers, those that run first, then the others, in the order they would be made."""
    why = {selection.workflow: selection.why for selection in selections}
    starts = [selection.workflow for selection in selections if selection.starts]
    order = close_over_needs(project, starts)
    planned = []
    for name in order:
        needed_by = [other for other in order if name in project.workflows[other].needs]
        first = f"{', '.join(needed_by)} needs it"
        gate = project.workflows[name].gate or ""
        starting = Planned(name, "starts", why[name], gate)
        planned.append(starting if name in starts else Planned(name, "runs first", first, gate))
    return planned + [Planned(name, "no", why[name]) for name in why if name not in order]


def event_of(args: argparse.Namespace, root: Path) -> Event:
    """The event the arguments describe, with the branch and the changes of the working tree around `root`."""
    trigger = Trigger(args.event.replace("-", "_") if args.event == "pull-request" else args.event)
    is_of_commits = trigger in (Trigger.PUSH, Trigger.PULL_REQUEST)
    return Event(
        trigger=trigger,
        branch=args.branch or ("" if args.tag and trigger is Trigger.PUSH else current_branch(root)),
        tag=args.tag if trigger is Trigger.PUSH else "",
        changed=changed_paths(root, args.base) if is_of_commits else None,
        tag_moved=args.tag if trigger is Trigger.TAG_MOVED else "",
        event=args.name if trigger is Trigger.EVENT else "",
        message=args.name if trigger is Trigger.COMMENT else _subject(root) if is_of_commits else "",
        workflow=args.workflow,
    )


def current_branch(root: Path) -> str:
    """The branch checked out; `main` where there is no repository, or no branch."""
    return _ask(root, "symbolic-ref", "--quiet", "--short", "HEAD").strip() or "main"


def changed_paths(root: Path, base: str) -> tuple[str, ...] | None:
    """Paths that differ between a commit and the working tree, new files included; None where that is not known.

    Without `base` it is the branch's upstream. Raises GitFailed when a base that was given does not exist.
    """
    if not base:
        base = _ask(root, "rev-parse", "--verify", "--quiet", "@{upstream}").strip()
        if not base:
            return None
    differ = git(
        ["diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", "--end-of-options", base, "--"],
        cwd=root,
        own_config=False,
    )
    new = git(["ls-files", "--others", "--exclude-standard", "--full-name", "-z"], cwd=root, own_config=False)
    return tuple(sorted({_text(path) for path in (*differ.split(b"\0"), *new.split(b"\0")) if path}))


def _subject(root: Path) -> str:
    return _ask(root, "log", "-1", "--format=%B")


def _ask(root: Path, *words: str) -> str:
    """What git answers; nothing where it cannot (no repository, no commit, no upstream)."""
    try:
        return _text(git(list(words), cwd=root, own_config=False))
    except GitFailed:
        return ""


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
