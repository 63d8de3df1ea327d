"""Which of the workflows that an event did not start are answered for at once, so that a required status never hangs.

Statuses are looked at on the heads of pull requests and of merge groups. A workflow is answered for only by the event
that could have started it there: another one's "not needed" would be green before the right one has been judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from dstack.language import Project, Selection


def after_push(project: Project, chosen: Sequence[Selection], *, on_default_branch: bool) -> dict[str, str]:
    """Workflow -> why. Those that pull requests start too are left to the pull request, but for the default branch,
    which is the head of none."""
    return {
        one.workflow: one.why
        for one in chosen
        if not one.starts
        and project.workflows[one.workflow].triggers.push is not None
        and (on_default_branch or project.workflows[one.workflow].triggers.pull_request is None)
    }


def after_pull_request(project: Project, chosen: Sequence[Selection], *, is_fork: bool) -> dict[str, str]:
    """Workflow -> why. Those of pushes alone are left to the push of the same commit, which a fork's never is here."""
    return {
        one.workflow: one.why
        for one in chosen
        if not one.starts
        and (
            project.workflows[one.workflow].triggers.pull_request is not None
            or (is_fork and project.workflows[one.workflow].triggers.push is not None)
        )
    }


def after_merge_group(project: Project, chosen: Sequence[Selection]) -> dict[str, str]:
    """Workflow -> why, for all that pushes or pull requests start: nothing else happens to a merge group's commit."""
    return {one.workflow: one.why for one in chosen if not one.starts and has_status(project, one.workflow)}


def has_status(project: Project, workflow: str) -> bool:
    """Whether a push or a pull request can ever make a clean run of it."""
    triggers = project.workflows[workflow].triggers
    return triggers.push is not None or triggers.pull_request is not None
