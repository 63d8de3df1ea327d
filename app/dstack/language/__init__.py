"""What a repository says: `.dstack/` read, checked and made concrete, without any I/O and without a clock."""

from dstack.language.attempt import fill_attempt
from dstack.language.lint import lint_text
from dstack.language.needs import close_over_needs
from dstack.language.problems import Problem
from dstack.language.project import FILES, Project
from dstack.language.read_project import read_project
from dstack.language.resolve import Context, Resolved, resolve
from dstack.language.triggers import Event, Idle, Selection, select
from dstack.language.workflow import (
    Concurrency,
    Dependency,
    ProviderDefinition,
    ProviderRef,
    PullRequestTrigger,
    PushTrigger,
    ScheduleTrigger,
    Triggers,
    Workflow,
)

__all__ = [
    "FILES",
    "Concurrency",
    "Context",
    "Dependency",
    "Event",
    "Idle",
    "Problem",
    "Project",
    "ProviderDefinition",
    "ProviderRef",
    "PullRequestTrigger",
    "PushTrigger",
    "Resolved",
    "ScheduleTrigger",
    "Selection",
    "Triggers",
    "Workflow",
    "close_over_needs",
    "fill_attempt",
    "lint_text",
    "read_project",
    "resolve",
    "select",
]
