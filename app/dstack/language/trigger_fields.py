"""When a workflow starts: the keys under `on`."""

from __future__ import annotations

import re
from typing import Any

from dstack.language import words
from dstack.language.cron import MIN_GAP_MINUTES, parse_cron, parse_timezone
from dstack.language.dependencies import parse_tag
from dstack.language.kinds import BOOLEAN, GLOB, NAME, choice, fixed, patterns
from dstack.language.quantities import Wrong
from dstack.language.records import Field, Record
from dstack.language.shapes import ByKind, ListOf, Word
from dstack.language.workflow import (
    PULL_REQUEST_TYPES,
    PullRequestTrigger,
    PushTrigger,
    ScheduleTrigger,
    Triggers,
)

NEVER = "manual"
OWN_WORD = "/dstack"
TRIGGER_NAMES = ("push", "pull-request", "comment", "schedule", "tag-moved", "event", NEVER)


def _filtered(build: Any, *fields: Field) -> ByKind:
    def checked(values: dict[str, Any]) -> Any:
        for name in ("branches", "tags", "paths"):
            if name in values and f"{name}-ignore" in values:
                raise Wrong(
                    f'leave one out: a "!pattern" under {name} takes away what others gave',
                    f'"{name}" and "{name}-ignore" exclude each other',
                )
        return build(**{name.replace("-", "_"): value for name, value in values.items()})

    return ByKind(table=Record(fields, build=checked, what="patterns"), nothing=build)


_BRANCHES = Field(
    "branches", patterns("a branch or pattern"), "Branches, as patterns; `*` does not cross `/`, `**` does."
)
_PATHS = Field("paths", ListOf(GLOB, limit=200), "Changed paths, as patterns; narrows the workflow's own `paths`.")
_BRANCHES_IGNORE = Field(
    "branches-ignore", patterns("a branch or pattern"), "All branches but these; instead of `branches`."
)
_PATHS_IGNORE = Field(
    "paths-ignore", ListOf(GLOB, limit=200), "A change of nothing but these does not start it; instead of `paths`."
)
_TYPES = Field(
    "types", ListOf(choice(*PULL_REQUEST_TYPES)), "What happened to the pull request; all of these by default."
)
_DRAFTS = Field("drafts", BOOLEAN, "Start for drafts too; by default only once it is ready for review.")
_SCHEDULE_WORD = fixed(f"five cron fields, due at most every {MIN_GAP_MINUTES} minutes", parse_cron)
_SCHEDULE = ByKind(
    scalar=fixed(_SCHEDULE_WORD.expected, lambda text: ScheduleTrigger(parse_cron(text))),
    table=Record(
        (
            Field("cron", _SCHEDULE_WORD, "Five fields: minute, hour, day, month, weekday.", required=True),
            Field("timezone", fixed("the name of a time zone", parse_timezone), "Time zone; UTC where it is left out."),
            Field("missed", choice("run-latest", "skip"), "What happens to times the server was down for."),
        ),
        build=lambda values: ScheduleTrigger(**values),
        what="a schedule",
    ),
)


def parse_comment(text: str) -> str:
    """The command a comment begins with. Raises Wrong."""
    if not re.match(r"/[a-z0-9][a-z0-9-]{0,49}\Z", text):
        raise Wrong("/" + text.lstrip("/").lower() if text.isalnum() else "")
    if text == OWN_WORD:
        raise Wrong("write another, such as /train", f"{OWN_WORD} begins this server's own commands")
    return text


ON_TABLE = Record(
    (
        Field("push", _filtered(
            PushTrigger, _BRANCHES,
            Field("tags", patterns("a tag or pattern"), "Pushed Git tags, as patterns; without it none starts a run."),
            _PATHS, _BRANCHES_IGNORE,
            Field("tags-ignore", patterns("a tag or pattern"), "All Git tags but these; instead of `tags`."),
            _PATHS_IGNORE,
        ), "Starts when commits are pushed."),
        Field("pull-request", _filtered(
            PullRequestTrigger, _BRANCHES, _PATHS, _BRANCHES_IGNORE, _PATHS_IGNORE, _TYPES, _DRAFTS,
        ), "Starts when a pull request is opened or gets commits; `branches` are those it goes to."),
        Field("comment", fixed("a command such as /train", parse_comment), "Starts on this command in a pull request."),
        Field("schedule", ListOf(_SCHEDULE, limit=20), "Starts at these times."),
        Field("tag-moved", ListOf(fixed("a tag such as prepare:latest", parse_tag), limit=20),
              "Starts when a tag is put on another run."),
        Field("event", ListOf(NAME, limit=20), "Starts on an event posted to the server's API under this name."),
    ),
    build=lambda values: Triggers(**{name.replace("-", "_"): value for name, value in values.items()}),
    what="triggers",
    hints={
        "workflow-dispatch": "every workflow can be started by hand",
        "workflow_dispatch": "every workflow can be started by hand",
        "cron": "schedule: {cron: ...}",
        "branches": "put it under push: or pull_request:",
        "manual": "write `on: manual` alone",
    },
)  # fmt: skip


def _triggers_of(names: tuple[str, ...]) -> Triggers:
    if NEVER in names:
        if len(names) > 1:
            raise Wrong(message=f'"{NEVER}" stands alone: it means that nothing else starts the workflow')
        return Triggers()
    return Triggers(
        push=PushTrigger() if "push" in names else None,
        pull_request=PullRequestTrigger() if "pull-request" in names else None,
    )


def parse_trigger(text: str) -> str:
    """A trigger that needs no settings. Raises Wrong."""
    name: str = words.one_of(TRIGGER_NAMES)(text)
    if name not in ("push", "pull-request", NEVER):
        raise Wrong(f"write a mapping: on: {{{name}: ...}}", f'"{name}" needs to know which')
    return name


class _TriggerNames(ListOf):
    """`on: push` and `on: [push, pull_request]`."""

    def read(self, node: Any, reading: Any, path: str) -> Any:
        names = super().read(node, reading, path)
        try:
            return None if names is None else _triggers_of(names)
        except Wrong as wrong:
            return reading.wrong(node, path, "", message=wrong.message)


_TRIGGER = Word(
    "push, pull_request or manual",
    parse_trigger,
    {"enum": ["push", "pull_request", "pull-request", NEVER]},
    template=False,
)
ON = ByKind(scalar=_TriggerNames(_TRIGGER), items=_TriggerNames(_TRIGGER), table=ON_TABLE)
