"""What people do to repositories, as tests say it: make, push, tag, fork, rename. GitHub's webhooks follow."""

from __future__ import annotations

from fake_github import events, git_store, moves, shapes
from fake_github.git_store import ZEROS, Files
from fake_github.state import Account, Repo
from fake_github.world import World

USER = "octocat"
Which = str | Repo  # a full name, or the repository itself


class RepoActs(World):
    """Actions on repositories and refs. `author` is the login of who does it."""

    def create_repo(
        self, full_name: str, private: bool = True, files: Files | None = None, default_branch: str = "main"
    ) -> Repo:
        """A repository; its owner is an organization unless the account is known as a user. With `files` it has a
        first commit (nothing is announced of that)."""
        login, name = full_name.split("/")
        with self.lock:
            number = self.new_id()
            repo = Repo(number, self.account(login, "Organization"), name, private,
                        self.folder / "git" / f"{number}.git", self.clock(), default_branch)  # fmt: skip
            git_store.init(repo.path, default_branch)
            self.repos[repo.id] = repo
            if files is not None:
                self.commit(repo, default_branch, files, "Begin")
            self.renamed.pop(full_name.lower(), None)
            for installation in self.installed_on(repo):
                self.tell_repositories(installation, "added", [repo], self.account(USER))
            return repo

    def rename_repo(self, which: Which, name: str, author: str = USER) -> Repo:
        with self.lock:
            repo = self.repo(which)
            before = repo.name
            self.renamed[repo.full_name.lower()] = repo.id
            repo.name = name
            self.renamed.pop(repo.full_name.lower(), None)
            changes = {"repository": {"name": {"from": before}}}
            events.repository(self, repo, "renamed", self.account(author), changes=changes)
            return repo

    def transfer_repo(self, which: Which, owner: str, author: str = USER) -> Repo:
        """To another account. Only installations there see it from now on; those that no longer do are told."""
        with self.lock:
            repo, who = self.repo(which), self.account(author)
            left = list(self.installed_on(repo))
            before = repo.owner
            self.renamed[repo.full_name.lower()] = repo.id
            repo.owner = self.account(owner, "Organization")
            self.renamed.pop(repo.full_name.lower(), None)
            kind = "organization" if before.type == "Organization" else "user"
            changes = {"owner": {"from": {kind: shapes.account(self.at, before)}}}
            for installation in left:
                self.tell_repositories(installation, "removed", [repo], who)
            for installation in self.installed_on(repo):
                self.tell_repositories(installation, "added", [repo], who)
            events.repository(self, repo, "transferred", who, changes=changes)
            return repo

    def delete_repo(self, which: Which, author: str = USER) -> None:
        with self.lock:
            repo = self.repo(which)
            events.repository(self, repo, "deleted", self.account(author))
            repo.gone = True
            for other in self.repos.values():
                for issue in other.pulls:
                    if issue.pull and issue.pull.head_repo is repo and other is not repo:
                        issue.pull.head_repo = None

    def set_default_branch(self, which: Which, branch: str, author: str = USER) -> None:
        with self.lock:
            repo = self.repo(which)
            before, repo.default_branch = repo.default_branch, branch
            git_store.git(repo.path, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
            changes = {"default_branch": {"from": before}}
            events.repository(self, repo, "edited", self.account(author), changes=changes)

    def set_permission(self, which: Which, login: str, permission: str, role_name: str | None = None) -> None:
        """What a person may: admin, write, read or none; `role_name` for maintain, triage and custom roles."""
        with self.lock:
            who = self.account(login)
            role = role_name if role_name is not None else permission
            self.repo(which).permissions[who.login] = (permission, role)

    def delete_user(self, login: str) -> None:
        """The account is gone: nobody by this name may anything. What was written stays."""
        with self.lock:
            self.accounts.pop(login.lower(), None)
            for repo in self.repos.values():
                repo.permissions.pop(login, None)

    # Refs

    def commit(
        self, which: Which, branch: str, files: Files, message: str = "Change", author: str = USER,
        parent: str | None = None,
    ) -> str:  # fmt: skip
        """A commit and its branch, announced to nobody: as if every webhook had been lost. Files of None go."""
        with self.lock:
            repo = self.repo(which)
            return git_store.commit(
                repo.path, branch, files, message, author=self.person(author), at=self.clock(), parent=parent
            )

    def push(
        self, which: Which, branch: str, files: Files, message: str = "Change", author: str = USER,
        parent: str | None = None,
    ) -> str:  # fmt: skip
        """Push one commit on top of the branch (a new branch starts at the default one's head, or at `parent`)."""
        with self.lock:
            repo = self.repo(which)
            before = git_store.resolve(repo.path, f"refs/heads/{branch}")
            if before is None and parent is None:
                parent = git_store.resolve(repo.path, f"refs/heads/{repo.default_branch}")
            sha = self.commit(repo, branch, files, message, author, parent)
            self._moved(repo, f"refs/heads/{branch}", before or ZEROS, sha, author)
            return sha

    def force_push(self, which: Which, branch: str, sha: str, author: str = USER) -> str:
        """Move a branch to a commit that is there (also a new branch: as `git push SHA:refs/heads/NAME`)."""
        with self.lock:
            repo = self.repo(which)
            before = git_store.resolve(repo.path, f"refs/heads/{branch}") or ZEROS
            git_store.set_ref(repo.path, f"refs/heads/{branch}", sha)
            self._moved(repo, f"refs/heads/{branch}", before, sha, author)
            return sha

    create_branch = force_push

    def delete_branch(self, which: Which, branch: str, author: str = USER) -> None:
        self._delete(which, f"refs/heads/{branch}", author)

    def push_tag(
        self, which: Which, tag: str, sha: str | None = None, message: str | None = None, author: str = USER
    ) -> str:
        """A tag on a commit (the default branch's head), annotated when it has a message; the commit's id."""
        return self.push_tags(which, [tag], sha, message, author)

    def push_tags(
        self, which: Which, tags: list[str], sha: str | None = None, message: str | None = None, author: str = USER
    ) -> str:
        """Several tags in one push: more than three at once are announced to nobody, as at GitHub."""
        with self.lock:
            repo = self.repo(which)
            target = sha or self.head(repo)
            for tag in tags:
                ref = f"refs/tags/{tag}"
                before = git_store.refs(repo.path, ref).get(ref, ZEROS)
                after = self._tag_object(repo, tag, target, message, author) if message is not None else target
                git_store.set_ref(repo.path, ref, after)
                if len(tags) <= 3:
                    self._moved(repo, ref, before, after, author)
            return target

    def _tag_object(self, repo: Repo, tag: str, sha: str, message: str, author: str) -> str:
        person = self.person(author)
        text = (
            f"object {sha}\ntype commit\ntag {tag}\ntagger {person.name} <{person.email}> {int(self.clock())} +0000\n"
        )
        return git_store.git(repo.path, "mktag", stdin=f"{text}\n{message}\n".encode())

    def delete_tag(self, which: Which, tag: str, author: str = USER) -> None:
        self._delete(which, f"refs/tags/{tag}", author)

    def _delete(self, which: Which, ref: str, author: str) -> None:
        with self.lock:
            repo = self.repo(which)
            before = git_store.refs(repo.path, ref)[ref]
            git_store.delete_ref(repo.path, ref)
            self._moved(repo, ref, before, ZEROS, author)

    def _moved(self, repo: Repo, ref: str, before: str, after: str, author: str) -> None:
        moves.ref_moved(self, repo, ref, before, after, self.account(author))

    def head(self, which: Which, branch: str | None = None) -> str:
        """The commit a branch (the default one) is at. Raises KeyError."""
        repo = self.repo(which)
        name = branch or repo.default_branch
        sha = git_store.resolve(repo.path, f"refs/heads/{name}")
        if sha is None:
            raise KeyError(f"{repo.full_name} has no branch {name}")
        return sha

    def refs(self, which: Which, prefix: str = "refs/") -> dict[str, str]:
        return git_store.refs(self.repo(which).path, prefix)

    def fork(self, which: Which, owner: str) -> Repo:
        """A user's copy; it is announced to nobody, and no App is installed there."""
        with self.lock:
            repo = self.repo(which)
            number = self.new_id()
            copy = Repo(number, self.account(owner), repo.name, repo.private, self.folder / "git" / f"{number}.git",
                        self.clock(), repo.default_branch, fork_of=repo)  # fmt: skip
            git_store.clone(repo.path, copy.path)
            self.repos[copy.id] = copy
            return copy

    def merge_group(self, which: Which, base: str, sha: str, number: int = 1, author: str = USER) -> str:
        """A merge queue asks for checks of `sha`, on a branch of its own; its full ref."""
        with self.lock:
            repo = self.repo(which)
            base_sha = self.head(repo, base)
            branch = f"gh-readonly-queue/{base}/pr-{number}-{base_sha}"
            ref = f"refs/heads/{branch}"
            git_store.set_ref(repo.path, ref, sha)
            who = self.account(author)
            moves.ref_moved(self, repo, ref, ZEROS, sha, who)
            group = _merge_group(repo, ref, sha, base, base_sha)
            self.announce(repo, "merge_group", {"action": "checks_requested", "merge_group": group}, who)
            return ref

    def drop_merge_group(self, which: Which, ref: str, base: str, reason: str = "dequeued", author: str = USER) -> None:
        """The queue is done with a group: `merged`, `invalidated` or `dequeued`; its branch goes."""
        with self.lock:
            repo, who = self.repo(which), self.account(author)
            sha = git_store.refs(repo.path)[ref]
            group = _merge_group(repo, ref, sha, base, self.head(repo, base))
            self.announce(repo, "merge_group", {"action": "destroyed", "reason": reason, "merge_group": group}, who)
            git_store.delete_ref(repo.path, ref)
            moves.ref_moved(self, repo, ref, sha, ZEROS, who)

    def tell_repositories(self, installation: object, action: str, repos: list[Repo], who: Account) -> None:
        """installation_repositories; made in `acts_apps`."""
        raise NotImplementedError


def _merge_group(repo: Repo, ref: str, sha: str, base: str, base_sha: str) -> dict[str, object]:
    info = git_store.show(repo.path, sha)
    commit = {"id": sha, "tree_id": info.tree, "timestamp": info.committed, **shapes.commit_line(info)}
    return {
        "head_sha": sha, "head_ref": ref, "base_sha": base_sha, "base_ref": f"refs/heads/{base}", "head_commit": commit
    }  # fmt: skip
