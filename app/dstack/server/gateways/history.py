"""Where commits stand in the history of a repository; which of them matter is left to those who ask."""

from __future__ import annotations

import threading
from collections import OrderedDict

from dstack.errors import GitFailed, Invalid, NotFound
from dstack.git.names import check_sha
from dstack.server.gateways.local_git import LocalGit

_KEPT = 8  # lines of 500 commits are 50 KB each


class History:
    """Questions to the repositories of `git`. The last answers are kept: many runs of a push ask the same."""

    def __init__(self, git: LocalGit) -> None:
        self._git = git
        self._lines: OrderedDict[tuple[str, str, int], tuple[str, ...]] = OrderedDict()
        self._guard = threading.Lock()

    def first_parents(self, repo_id: str, sha: str, limit: int) -> tuple[str, ...]:
        """The commit itself, its first parent, that one's first parent and so on, `limit` at most; none where the
        commit is not here. Raises GitFailed."""
        key = (repo_id, check_sha(sha), limit)
        with self._guard:
            if key in self._lines:
                self._lines.move_to_end(key)
                return self._lines[key]
        line = self._walk(*key)
        with self._guard:
            if line:  # a commit that is not here may come
                self._lines[key] = line
            while len(self._lines) > _KEPT:
                self._lines.popitem(last=False)
        return line

    def meeting_point(self, repo_id: str, branch: str, sha: str, objects: str = "") -> str | None:
        """The commit at which the work that led to `sha` parted from a branch ("": the default one); None when there is
        no such branch or the two share nothing. `objects` is the repository that has `sha`, where it is not this one.
        Raises GitFailed."""
        try:
            head = self._git.resolve(repo_id, f"refs/heads/{branch or self._git.default_branch(repo_id)}")
        except (NotFound, Invalid):  # no such repository or branch, or no name for one
            return None
        return self.parting(objects or repo_id, head, sha)

    def parting(self, repo_id: str, one: str, other: str) -> str | None:
        """The commit two lines of work parted at; None when they share none, or one is not here."""
        try:
            return self._git.merge_base(repo_id, one, other)
        except NotFound:
            return None

    def _walk(self, repo_id: str, sha: str, limit: int) -> tuple[str, ...]:
        argv = ["rev-list", "--first-parent", f"--max-count={limit}", sha, "--"]
        try:
            return tuple(self._git.ask(repo_id, argv).decode().split())
        except NotFound:
            return ()
        except GitFailed:
            if self._git.has_commit(repo_id, sha):
                raise
            return ()
