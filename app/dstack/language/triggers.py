"""Which workflows an event starts, and in words why or why not; making the runs is left to the server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from dstack.language.globs import matches_any
from dstack.language.project import Project
from dstack.language.workflow import PullRequestTrigger, PushTrigger, Workflow
from dstack.wire.states import Trigger

_SKIP = re.compile(r"\[(?:skip (?:ci|dstack)|(?:ci|dstack) skip|no ci)\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. `branch` or `tag` is what was pushed (of a pull request: the branch it goes to); `changed` are the
    changed paths, None when they are not known; `message` is that of the head commit, or the text of a comment;
    `tag_moved` reads `prepare:latest`; `event` is the name of a posted event; `workflow` is the one that a schedule
    or a person means. `action` is what happened to a pull request; empty when it is not known: then its type is not
    asked for."""

    trigger: Trigger
    branch: str = ""
    tag: str = ""
    default_branch: str = ""
    changed: tuple[str, ...] | None = None
    tag_moved: str = ""
    event: str = ""
    message: str = ""
    workflow: str = ""
    action: str = ""
    is_draft: bool = False


class Idle(Enum):
    """Why a workflow that the event is meant for has nothing to do there: nothing that counts for it has changed, the
    commit's message says to skip it, or its pull request is a draft."""

    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Selection:
    """Whether an event starts a workflow. `why` is a sentence's end: "pushed to main", "no `on: push`"; `idle` is None
    where it starts, and where the event is none of its own."""

    workflow: str
    starts: bool
    why: str
    idle: Idle | None = None


Answer = tuple[bool, str] | tuple[bool, str, Idle]


def select(project: Project, event: Event) -> tuple[Selection, ...]:
    """One answer for every workflow, in the order of the file. What a start needs first, `close_over_needs` says."""
    skip = _SKIP.search(event.message) if event.trigger in (Trigger.PUSH, Trigger.PULL_REQUEST) else None
    answers = []
    for workflow in project.workflows.values():
        skipped = (False, f"the commit message says {skip[0]}", Idle.SKIPPED) if skip else None
        answers.append(Selection(workflow.name, *(skipped or _judge(workflow, event))))
    return tuple(answers)


def _judge(workflow: Workflow, event: Event) -> Answer:
    match event.trigger:
        case Trigger.PUSH:
            return _push(workflow, event)
        case Trigger.PULL_REQUEST:
            return _pull_request(workflow, event)
        case Trigger.COMMENT:
            return _comment(workflow, event)
        case Trigger.SCHEDULE:
            has_one = bool(workflow.triggers.schedule)
            return _named(workflow, event) if has_one else (False, "it has no `on: schedule`")
        case Trigger.TAG_MOVED:
            tags = [str(tag) for tag in workflow.triggers.tag_moved]
            return _one_of(event.tag_moved, tags, "tag-moved")
        case Trigger.EVENT:
            return _one_of(event.event, workflow.triggers.event, "event")
        case Trigger.MANUAL:
            return _named(workflow, event)


def _push(workflow: Workflow, event: Event) -> Answer:
    push = workflow.triggers.push
    if push is None:
        return False, "it has no `on: push`"
    if event.tag:
        if not push.tags and not push.tags_ignore:
            return False, "a Git tag was pushed, and its `on: push` names no tags"
        if push.tags and not matches_any(push.tags, event.tag):
            return False, f"the Git tag {event.tag} fits none of its tags ({_words(push.tags)})"
        if matches_any(push.tags_ignore, event.tag):
            return False, f"the Git tag {event.tag} is one it ignores ({_words(push.tags_ignore)})"
        return True, f"the Git tag {event.tag} was pushed"
    if (push.tags or push.tags_ignore) and not push.branches and not push.branches_ignore:
        return False, "its `on: push` names Git tags only"
    if push.branches and not matches_any(push.branches, event.branch):
        return False, f"the branch {event.branch} fits none of its branches ({_words(push.branches)})"
    if matches_any(push.branches_ignore, event.branch):
        return False, f"the branch {event.branch} is one it ignores ({_words(push.branches_ignore)})"
    return _with_paths(workflow, event, push, f"pushed to {event.branch}" if event.branch else "pushed")


def _pull_request(workflow: Workflow, event: Event) -> Answer:
    trigger = workflow.triggers.pull_request
    if trigger is None:
        return False, "it has no `on: pull_request`"
    if trigger.branches and not matches_any(trigger.branches, event.branch):
        return False, f"the pull request goes to {event.branch}, not to {_words(trigger.branches)}"
    if matches_any(trigger.branches_ignore, event.branch):
        return False, f"the pull request goes to {event.branch}, which it ignores ({_words(trigger.branches_ignore)})"
    if event.is_draft and not trigger.drafts:
        return False, "the pull request is a draft", Idle.DRAFT
    # One that waited for the end of the draft starts then, whatever else its types are: else it never would.
    asked = event.action in trigger.types or (event.action == "ready_for_review" and not trigger.drafts)
    if event.action and not asked:
        return False, f"{event.action} is none of its types ({_words(trigger.types)})"
    return _with_paths(workflow, event, trigger, f"a pull request to {event.branch}")


def _with_paths(workflow: Workflow, event: Event, trigger: PushTrigger | PullRequestTrigger, why: str) -> Answer:
    """Paths count only when it is known which have changed."""
    narrower, ignored = trigger.paths, trigger.paths_ignore
    if event.changed is None or not (workflow.paths or narrower or ignored):
        return True, why
    changed = [path for path in event.changed if not workflow.paths or matches_any(workflow.paths, path)]
    if not changed:
        return False, f"nothing it reads has changed ({_words(workflow.paths)})", Idle.UNCHANGED
    changed = [path for path in changed if not narrower or matches_any(narrower, path)]
    if not changed:
        return False, f"no change fits the paths of its trigger ({_words(narrower)})", Idle.UNCHANGED
    changed = [path for path in changed if not matches_any(ignored, path)]
    if not changed:
        return False, f"nothing but what it ignores has changed ({_words(ignored)})", Idle.UNCHANGED
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return True, f"{why}; {changed[0]}{more} changed"


def _comment(workflow: Workflow, event: Event) -> Answer:
    command = workflow.triggers.comment
    said = event.message.split(maxsplit=1)[:1]
    if not command:
        return False, "it has no `on: comment`"
    return (True, f"asked for by {command}") if said == [command] else (False, f"its command is {command}")


def _one_of(given: str, wanted: tuple[str, ...] | list[str], key: str) -> Answer:
    if not wanted:
        return False, f"it has no `on: {key}`"
    if given in wanted:
        return True, f"{given} {'moved' if key == 'tag-moved' else 'was posted'}"
    return False, f"its `on: {key}` is {_words(wanted)}"


def _named(workflow: Workflow, event: Event) -> Answer:
    by = "its schedule" if event.trigger is Trigger.SCHEDULE else "hand"
    if event.workflow in ("", workflow.name):
        return True, f"started by {by}"
    return False, f"{event.workflow} was meant"


def _words(patterns: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(patterns[:5])
    return f"{shown}, …" if len(patterns) > 5 else shown
