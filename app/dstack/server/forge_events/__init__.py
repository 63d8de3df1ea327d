"""What GitHub announces, read from a webhook's bytes into frozen data of ours. Pure: nothing is looked up or stored."""

from dstack.server.forge_events.events import (
    CheckRunEvent,
    CheckSuiteEvent,
    Event,
    InstallationEvent,
    InstallationRepositories,
    IssueComment,
    MergeGroup,
    Origin,
    Other,
    Ping,
    PullRequestEvent,
    Push,
    RepoRef,
    RepositoryEvent,
)
from dstack.server.forge_events.read import parse_payload, read_data, read_event, why_own, why_unused

__all__ = [
    "CheckRunEvent",
    "CheckSuiteEvent",
    "Event",
    "InstallationEvent",
    "InstallationRepositories",
    "IssueComment",
    "MergeGroup",
    "Origin",
    "Other",
    "Ping",
    "PullRequestEvent",
    "Push",
    "RepoRef",
    "RepositoryEvent",
    "parse_payload",
    "read_data",
    "read_event",
    "why_own",
    "why_unused",
]
