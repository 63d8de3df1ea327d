"""The tables, one noun a file. Times are seconds since the epoch (UTC); a JSON value is replaced, never changed."""

from dstack.server.models.artifact import Artifact
from dstack.server.models.attempt import Attempt, Offer
from dstack.server.models.delivery import Delivery
from dstack.server.models.group import Group
from dstack.server.models.head import Head
from dstack.server.models.job import JobRow
from dstack.server.models.metric import Metric
from dstack.server.models.outbox import OutboxMark
from dstack.server.models.repo import Repo
from dstack.server.models.run import Run, RunInput, RunNeed
from dstack.server.models.runner import Runner
from dstack.server.models.secret import Secret
from dstack.server.models.tag import Tag, TagMove
from dstack.server.models.token import Token
from dstack.server.models.user import User

__all__ = [
    "Artifact",
    "Attempt",
    "Delivery",
    "Group",
    "Head",
    "JobRow",
    "Metric",
    "Offer",
    "OutboxMark",
    "Repo",
    "Run",
    "RunInput",
    "RunNeed",
    "Runner",
    "Secret",
    "Tag",
    "TagMove",
    "Token",
    "User",
]
