"""The tables, one noun a file. Times are seconds since the epoch (UTC); a JSON value is replaced, never changed."""

from dstack.server.models.artifact import Artifact
from dstack.server.models.attempt import Attempt, Offer
from dstack.server.models.delivery import Delivery
from dstack.server.models.github import (
    Approval,
    Command,
    ForgeLog,
    ForgeReport,
    GithubApp,
    Installation,
    NotNeeded,
    PullRequest,
)
from dstack.server.models.group import Group
from dstack.server.models.head import Head
from dstack.server.models.job import JobRow
from dstack.server.models.metric import Metric
from dstack.server.models.outbox import OutboxMark
from dstack.server.models.repo import FormerName, Repo
from dstack.server.models.run import Run, RunInput, RunNeed
from dstack.server.models.runner import Runner
from dstack.server.models.schedule import Schedule
from dstack.server.models.secret import Secret
from dstack.server.models.tag import Tag, TagMove
from dstack.server.models.token import Token
from dstack.server.models.upload import Upload
from dstack.server.models.user import User

__all__ = [
    "Approval",
    "Artifact",
    "Attempt",
    "Command",
    "Delivery",
    "ForgeLog",
    "ForgeReport",
    "FormerName",
    "GithubApp",
    "Group",
    "Head",
    "Installation",
    "JobRow",
    "Metric",
    "NotNeeded",
    "Offer",
    "OutboxMark",
    "PullRequest",
    "Repo",
    "Run",
    "RunInput",
    "RunNeed",
    "Runner",
    "Schedule",
    "Secret",
    "Tag",
    "TagMove",
    "Token",
    "Upload",
    "User",
]
