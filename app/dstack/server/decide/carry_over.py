"""Which earlier commit speaks for a pushed one that a workflow reads the same of: what failed there is still in it.

An entry that has changed since ends that: the old run says nothing of it, and the push does not start it either, since
what starts depends on Git alone and never on how another run fared (late and doubled news make the same runs). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dstack.language import Event, Project, Triggers, Workflow, select
from dstack.wire.job import Retry
from dstack.wire.states import Trigger


def speaker_of(line: Sequence[str], ran: Collection[str], carried: Mapping[str, str]) -> str:
    """The commit that says how a workflow stands. `line` is the commit that was pushed to and those before it, the
    nearest first; `ran` are those with a clean run of it, `carried` those that another one speaks for. The nearest of
    them counts. Without any it is the first: the news of its push may still be under way. Empty: there is no line."""
    for sha in line:
        if sha in ran:
            return sha
        if sha in carried:
            return carried[sha]
    return line[0] if line else ""


def reads_the_same(name: str, then: Project, now: Project, changed: Sequence[str] | None) -> bool:
    """Whether nothing that counts for a workflow differs between two commits: not its entry, as far as that says what
    is run and asked of it, and no path that would start it. `changed`: None, it is not known."""
    before, after = then.workflows.get(name), now.workflows.get(name)
    if before is None or after is None or after.triggers.push is None or changed is None:
        return False
    if _what_is_run(before, then) != _what_is_run(after, now):
        return False
    alone = Project(workflows={name: replace(after, triggers=_any_branch(after.triggers))})
    return not select(alone, Event(Trigger.PUSH, branch="any", changed=tuple(changed)))[0].starts


def _any_branch(triggers: Triggers) -> Triggers:
    """Which branch it was is settled: the push itself was one to look at."""
    assert triggers.push is not None
    return Triggers(push=replace(triggers.push, branches=(), branches_ignore=(), tags=(), tags_ignore=()))


def _what_is_run(workflow: Workflow, project: Project) -> tuple[Workflow, object]:
    """The entry without what is only told of it, or decides when it runs; and its provider, where that is the
    repository's own."""
    plain = replace(
        workflow,
        help="",
        report=None,
        tag=None,
        stop_grace=None,
        retry=Retry(),
        triggers=Triggers(),
        concurrency=None,
        notify=None,
    )
    return plain, project.providers.get(workflow.provider.name)
