"""What tests look at: statuses, checks, comments, issues, and the calls that were made."""

from __future__ import annotations

import re

from fake_github import rest_checks
from fake_github.acts_repos import Which
from fake_github.state import Call, CheckRun, CheckSuite, Comment, Issue, Status
from fake_github.world import World

_NO_CONTENT = re.compile(r"/app/installations/\d+/access_tokens|/app/hook/deliveries/\d+/attempts|/app-manifests/.*")


class Readers(World):
    """Reading changes nothing and shows live objects: look, do not touch."""

    def statuses(self, which: Which, sha: str) -> dict[str, Status]:
        """The newest status of every context on a commit."""
        with self.lock:
            return rest_checks.latest(self.repo(which), sha)

    def all_statuses(self, which: Which, sha: str, context: str | None = None) -> list[Status]:
        """Every status ever written on a commit (of one context), oldest first."""
        with self.lock:
            return [s for s in self.repo(which).statuses.get(sha, []) if context in (None, s.context)]

    def checks(self, which: Which, sha: str | None = None, name: str | None = None) -> list[CheckRun]:
        """Check runs of a commit (of all), oldest first."""
        with self.lock:
            repo = self.repo(which)
            rest_checks.go_stale(repo, self.clock())
            return [run for run in repo.checks.values() if sha in (None, run.head_sha) and name in (None, run.name)]

    def suites(self, which: Which, sha: str) -> list[CheckSuite]:
        with self.lock:
            return [suite for suite in self.repo(which).suites if suite.sha == sha]

    def comments(self, which: Which, number: int) -> list[Comment]:
        """Comments of an issue or a pull request, oldest first."""
        with self.lock:
            return [comment for comment in self.repo(which).comments.values() if comment.number == number]

    def comment_of(self, comment_id: int) -> Comment:
        with self.lock:
            return self.find_comment(comment_id)

    def reactions(self, comment_id: int) -> list[str]:
        """The contents ("eyes", "rocket"), in the order they came."""
        with self.lock:
            return [reaction.content for reaction in self.find_comment(comment_id).reactions]

    def issues(self, which: Which, state: str = "all") -> list[Issue]:
        """Issues that are no pull requests."""
        with self.lock:
            found = self.repo(which).issues.values()
            return [issue for issue in found if issue.pull is None and state in ("all", issue.state)]

    def calls(self, path: str = "", method: str = "") -> list[Call]:
        """API calls whose path matches a regular expression anywhere, and whose method is one of these words."""
        wanted = re.compile(path)
        return [
            call
            for call in list(self.ledger)
            if wanted.search(call.path) and (not method or call.method in method.split())
        ]

    def writes(self, path: str = "", done: bool = False) -> list[Call]:
        """Calls that change something at GitHub (tokens and redeliveries are none); `done`: only those that did."""
        return [
            call
            for call in self.calls(path)
            if call.method != "GET" and not _NO_CONTENT.fullmatch(call.path) and (not done or 200 <= call.status < 300)
        ]
