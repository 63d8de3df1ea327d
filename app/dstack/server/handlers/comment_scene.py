"""Where a command is given: the pull request as the forge has it now, its head commit, and what the workflow files that
count there say. The commit is fetched only for commands that look at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dstack.errors import Invalid
from dstack.language import Project
from dstack.server.decide.plan import Occasion
from dstack.server.decide.trust import Facts, Trust, judge
from dstack.server.handlers.comment_words import words_of
from dstack.server.handlers.start_runs import read_project_at
from dstack.server.models import Delivery, PullRequest, Repo
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.mirror_commit import mirror_commit
from dstack.server.store.github import approval_of
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger


@dataclass(frozen=True)
class Scene:
    """`is_head_as_said`: the head is still the one that the comment was made at; `is_base_as_said`: it goes where it
    went then."""

    wiring: Wiring
    delivery: Delivery
    repo: Repo
    pull: PullRequest
    author: str
    comment_id: int
    is_head_as_said: bool
    is_base_as_said: bool

    @property
    def repo_id(self) -> int:
        return self.repo.id or 0

    @property
    def sha(self) -> str:
        return self.pull.head_sha

    def require_head(self) -> None:
        """Raises Invalid when the head moved since the comment was made."""
        if not self.is_head_as_said:
            raise Invalid(f"the head moved to {self.sha[:7]}, nothing was run", "Look at it, then comment again.")

    def require_base(self) -> None:
        """Raises Invalid when the pull request goes to another branch since the comment was made."""
        if not self.is_base_as_said:
            goes = f"#{self.pull.number} goes to {self.pull.base_branch} now"
            raise Invalid(f"{goes}: nothing is approved", "Look at its runs there, then comment again.")

    @cached_property
    def objects(self) -> str:
        """Where the head commit is on this server (see Run.objects); it is fetched when it is not there yet."""
        return mirror_commit(self.wiring, self.repo, self.sha, branch=self.pull.head_branch, pull=self.pull)

    @cached_property
    def trust(self) -> Trust:
        approval = self.wiring.db.read(lambda s: approval_of(s, self.repo_id, self.pull.number, self.sha))
        approved = approval.sha if approval is not None else None
        return judge(Facts(Trigger.COMMENT, self.sha, self.pull.number, self.pull.is_fork, approved))

    @cached_property
    def base_sha(self) -> str:
        """The head of the branch that the pull request goes to, fetched."""
        mirror_commit(self.wiring, self.repo, self.pull.base_sha, branch=self.pull.base_branch)
        return self.pull.base_sha

    @cached_property
    def config_sha(self) -> str:
        """The commit whose workflow files count, empty for the head itself."""
        return self.base_sha if self.trust.config_from_base else ""

    @cached_property
    def project(self) -> Project:
        """Raises ConfigProblems."""
        objects = self.objects
        if self.config_sha:
            return read_project_at(self.wiring, self.repo, self.config_sha)
        return read_project_at(self.wiring, self.repo, self.sha, objects)

    def occasion(self, key: str | None, *, fresh: bool = False) -> Occasion:
        objects = self.objects  # first: from here on the repository is on this server
        return Occasion(
            repo=self.repo.full_name,
            sha=self.sha,
            branch=self.pull.head_branch,
            default_branch=self.wiring.git.default_branch(str(self.repo_id)),
            trigger=Trigger.COMMENT,
            key=key,
            wheel=wheel_requirement(self.wiring.settings.public_url),
            pull_request=self.pull.number,
            base_branch=self.pull.base_branch,
            config_sha=self.config_sha,
            objects=objects,
            trusted=self.trust.trusted,
            needs_approval=self.trust.needs_approval,
            fresh=fresh,
        )

    def words(self) -> dict[str, tuple[str, ...]]:
        return words_of(self.project)
