"""What people do on pull requests and issues, as tests say it: open, push, comment, close, merge."""

from __future__ import annotations

from fake_github import events, git_store, moves, shapes_work
from fake_github.acts_repos import USER, RepoActs, Which
from fake_github.git_store import Files
from fake_github.state import Comment, Issue, Pull, Reaction, Repo


class PullActs(RepoActs):
    """Actions on pull requests, comments and issues. Numbers are those GitHub shows."""

    def open_pull(
        self, which: Which, head_branch: str, base: str = "main", title: str = "A change", author: str = USER,
        head_repo: Which | None = None, draft: bool = False, body: str | None = None,
    ) -> int:  # fmt: skip
        """A pull request of a branch, or of a fork's branch (`head_repo`); its number."""
        with self.lock:
            repo = self.repo(which)
            source = self.repo(head_repo) if head_repo is not None else repo
            now, repo.numbers = self.clock(), repo.numbers + 1
            pull = Pull(self.new_id(), source, source.owner, head_branch, self.head(source, head_branch), base,
                        self.head(repo, base), draft)  # fmt: skip
            issue = Issue(self.new_id(), repo.numbers, title, body, self.account(author), now, now, pull=pull)
            repo.issues[issue.number] = issue
            moves.keep_pull_ref(repo, issue)
            events.pull_request(self, repo, issue, "opened", self.account(author))
            return issue.number

    def pull(self, which: Which, number: int) -> Issue:
        """The pull request: an Issue with `pull`. Raises KeyError."""
        return self.repo(which).issues[number]

    def _pull(self, which: Which, number: int) -> tuple[Repo, Issue, Pull]:
        repo = self.repo(which)
        issue = repo.issues[number]
        assert issue.pull is not None, f"{repo.full_name}#{number} is an issue"
        return repo, issue, issue.pull

    def push_pull(
        self, which: Which, number: int, files: Files, message: str = "Change", author: str | None = None
    ) -> str:
        """Push a commit to the pull request's head branch (push there, synchronize here)."""
        with self.lock:
            _, issue, pull = self._pull(which, number)
            assert pull.head_repo is not None, "the fork is gone"
            return self.push(pull.head_repo, pull.head_ref, files, message, author or issue.author.login)

    def close_pull(self, which: Which, number: int, author: str = USER) -> None:
        with self.lock:
            repo, issue, _ = self._pull(which, number)
            moves.close(self, repo, issue, self.account(author))

    def reopen(self, which: Which, number: int, author: str = USER) -> None:
        with self.lock:
            repo, issue, pull = self._pull(which, number)
            issue.state, issue.closed_at = "open", None
            if pull.head_repo is not None:
                pull.head_sha = self.head(pull.head_repo, pull.head_ref)
                moves.keep_pull_ref(repo, issue)
            events.pull_request(self, repo, issue, "reopened", self.account(author))

    def erase_issue(self, which: Which, number: int) -> None:
        """It is gone without a trace and without news, as with the account of a spammer."""
        with self.lock:
            repo = self.repo(which)
            repo.issues.pop(number)
            repo.comments = {key: one for key, one in repo.comments.items() if one.number != number}

    def ready(self, which: Which, number: int, author: str = USER) -> None:
        """No draft any more."""
        self._draft(which, number, False, author)

    def to_draft(self, which: Which, number: int, author: str = USER) -> None:
        self._draft(which, number, True, author)

    def _draft(self, which: Which, number: int, draft: bool, author: str) -> None:
        with self.lock:
            repo, issue, pull = self._pull(which, number)
            pull.draft = draft
            action = "converted_to_draft" if draft else "ready_for_review"
            events.pull_request(self, repo, issue, action, self.account(author))

    def edit_pull(
        self, which: Which, number: int, title: str | None = None, base: str | None = None, author: str = USER
    ) -> None:
        """Another title, or another base branch."""
        with self.lock:
            repo, issue, pull = self._pull(which, number)
            changes: dict[str, object] = {}
            if title is not None:
                changes["title"], issue.title = {"from": issue.title}, title
            if base is not None:
                changes["base"] = {"ref": {"from": pull.base_ref}, "sha": {"from": pull.base_sha}}
                pull.base_ref, pull.base_sha = base, self.head(repo, base)
            events.pull_request(self, repo, issue, "edited", self.account(author), changes=changes)

    def merge_pull(self, which: Which, number: int, author: str = USER, method: str = "merge") -> str:
        """Merge (or "squash"); the new commit on the base branch."""
        with self.lock:
            repo, issue, pull = self._pull(which, number)
            base, person, at = self.head(repo, pull.base_ref), self.person(author), self.clock()
            text = f"Merge pull request #{number} from {pull.head_label}\n\n{issue.title}"
            sha = git_store.merge(repo.path, base, pull.head_sha, text, author=person, at=at)
            if method == "squash":
                tree = git_store.show(repo.path, sha).tree
                text = f"{issue.title} (#{number})"
                sha = git_store.commit_tree(repo.path, tree, (base,), text, author=person, at=at)
            git_store.set_ref(repo.path, f"refs/heads/{pull.base_ref}", sha)
            pull.merged_at, pull.merged_by, pull.merge_commit_sha = at, self.account(author), sha
            self._moved(repo, f"refs/heads/{pull.base_ref}", base, sha, author)
            moves.close(self, repo, issue, self.account(author))
            return sha

    # Talk

    def comment(self, which: Which, number: int, author: str, body: str, created_at: float | None = None) -> int:
        """A comment; its id. `created_at` dates it back."""
        with self.lock:
            repo = self.repo(which)
            at = created_at if created_at is not None else self.clock()
            comment = Comment(self.new_id(), repo, repo.issues[number].number, self.account(author), body, at, at)
            repo.comments[comment.id] = comment
            repo.issues[number].updated_at = max(repo.issues[number].updated_at, at)
            events.issue_comment(self, comment, "created", comment.author)
            return comment.id

    def edit_comment(self, comment_id: int, body: str, by: str | None = None) -> None:
        """Change a comment's text, as its author or somebody else."""
        with self.lock:
            comment = self.find_comment(comment_id)
            before, comment.body = comment.body, body
            comment.updated_at = self.clock()
            who = self.account(by) if by else comment.author
            events.issue_comment(self, comment, "edited", who, changes={"body": {"from": before}})

    def delete_comment(self, comment_id: int, by: str = USER) -> None:
        with self.lock:
            comment = self.find_comment(comment_id)
            events.issue_comment(self, comment, "deleted", self.account(by))
            del comment.repo.comments[comment_id]

    def react(self, comment_id: int, content: str, author: str = USER) -> None:
        """A person's reaction; nothing is announced, as at GitHub."""
        assert content in shapes_work.REACTIONS
        with self.lock:
            made = Reaction(self.new_id(), content, self.account(author), self.clock())
            self.find_comment(comment_id).reactions.append(made)

    def open_issue(
        self, which: Which, title: str, body: str = "", author: str = USER, labels: list[str] | None = None
    ) -> int:
        with self.lock:
            repo, now = self.repo(which), self.clock()
            repo.numbers += 1
            issue = Issue(self.new_id(), repo.numbers, title, body, self.account(author), now, now, labels=labels or [])
            repo.issues[issue.number] = issue
            events.issues(self, repo, issue, "opened", issue.author)
            return issue.number

    def close_issue(self, which: Which, number: int, author: str = USER) -> None:
        with self.lock:
            repo = self.repo(which)
            issue = repo.issues[number]
            issue.state, issue.closed_at = "closed", self.clock()
            events.issues(self, repo, issue, "closed", self.account(author))
