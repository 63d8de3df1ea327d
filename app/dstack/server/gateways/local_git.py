"""The bare repositories of this server, `ROOT/<repo id>.git`: whether they stand, their branches, and how git is asked.

Plain sync, safe to call from several threads. Pushes and fetches of others come in through `web/git_remote.py`.
A mirror of a repository hosted elsewhere is such a bare repository too, filled by a fetch of the server. What more
there is to ask and to change is in files of its own: snapshots, history, trees, kept, notes_local, forks, mirrors.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dstack.errors import Invalid, NotFound
from dstack.git.commits import Answer, read_answers
from dstack.git.names import check_ref, check_sha, is_zero
from dstack.git.pushes import RefUpdate
from dstack.git.run import config_environment, git, git_result, git_stream
from dstack.git.watch import git_watched

MAX_COMMIT_BYTES = 16 * 1024 * 1024  # also of a tree that is looked into
MAX_CHANGED_PATHS = 3000

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_FIRST_BRANCHES = ("refs/heads/main", "refs/heads/master")
_TIDY_OVER = 2000  # loose objects; git itself would collect at 6700
_TIDY_PACKS_OVER = 50  # every fetch of a mirror makes one, and git looks into all of them
_ANSWER_S = 120.0  # a question that hangs (a dying disk) must not hold up every other repository
_GC_S = 3600.0

# For every git that changes or serves a repository: what it acknowledges is on the disk.
DURABLE = (("core.fsync", "committed,loose-object"), ("core.logAllRefUpdates", "false"))


class LocalGit:
    """All repositories below `root`. A repo id is the store's key of the repo, never its name."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.root.mkdir(parents=True, exist_ok=True)

    # The repository itself

    def path(self, repo_id: str) -> Path:
        """Where the repository lies. Raises Invalid for an id that is not one."""
        if not _ID.match(repo_id):
            raise Invalid(f"{ascii(repo_id)[:80]} is not a repo id")
        return self.root / f"{repo_id}.git"

    def exists(self, repo_id: str) -> bool:
        return (self.path(repo_id) / "HEAD").is_file()

    def create(self, repo_id: str, default_branch: str = "main") -> Path:
        """Make an empty repository. It appears whole, or not at all; one that is there already stays as it is."""
        check_ref(default_branch)
        path = self.path(repo_id)
        fresh = path.with_suffix(f".{threading.get_ident()}.new")
        if self.exists(repo_id):
            return path
        shutil.rmtree(fresh, ignore_errors=True)
        argv = ["init", "--quiet", "--bare", "--template=", f"--initial-branch={default_branch}", "--", str(fresh)]
        git(argv, cwd=self.root, env={"GIT_DEFAULT_HASH": "sha1", "GIT_DEFAULT_REF_FORMAT": "files"})
        try:
            fresh.rename(path)
        except OSError:  # another call was faster: its repository is as good
            shutil.rmtree(fresh)
            if not self.exists(repo_id):
                raise
        return path

    def remove(self, repo_id: str) -> None:
        """Delete the repository with all its commits; done when there is none."""
        path = self.path(repo_id)
        if path.exists():
            gone = path.with_suffix(".gone")
            shutil.rmtree(gone, ignore_errors=True)
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def default_branch(self, repo_id: str) -> str:
        """The short name of the branch HEAD names, whether that exists yet or not."""
        head = (self._open(repo_id) / "HEAD").read_text().strip()
        return head.removeprefix("ref: ").removeprefix("refs/heads/")

    def set_default_branch(self, repo_id: str, branch: str) -> None:
        self.ask(repo_id, ["symbolic-ref", "HEAD", f"refs/heads/{check_ref(branch)}"])

    def adopt_head(self, repo_id: str, updates: Iterable[RefUpdate]) -> str | None:
        """After a first push, let HEAD name a branch that exists: main, master, or the first one pushed. Answers with
        the new default branch, None when nothing had to change."""
        made = [update.ref for update in updates if update.branch and not update.is_delete]
        if not made or self.has_ref(repo_id, f"refs/heads/{self.default_branch(repo_id)}"):
            return None
        branch = next((ref for ref in _FIRST_BRANCHES if ref in made), made[0]).removeprefix("refs/heads/")
        self.set_default_branch(repo_id, branch)
        return branch

    def tidy(self, repo_id: str, *, always: bool = False) -> bool:
        """Collect garbage when many loose objects or packs have come together; says whether it did. What nothing refers
        to goes after a day, so a push in progress loses nothing."""
        out = self.ask(repo_id, ["count-objects", "-v"])
        counts = {name: int(count) for name, count in (line.split(b": ") for line in out.splitlines() if b": " in line)
                  if count.isdigit()}  # fmt: skip
        if not always and counts[b"count"] < _TIDY_OVER and counts[b"packs"] < _TIDY_PACKS_OVER:
            return False
        self.ask(repo_id, ["gc", "--quiet", "--prune=1.day.ago"], timeout_s=_GC_S)
        return True

    # What it has

    def has_commit(self, repo_id: str, sha: str) -> bool:
        return self.find_commits(repo_id, [sha]) == {sha}

    def find_commits(self, repo_id: str, shas: Iterable[str]) -> set[str]:
        """Those of `shas` that are commits of this repository, asked at once."""
        return set(self._find(repo_id, [f"{check_sha(sha)}^{{commit}}" for sha in shas]))

    def resolve(self, repo_id: str, rev: str) -> str:
        """The commit a branch, Git tag, full ref or (shortened) commit id stands for. Where a short name is both, a tag
        wins over a branch: give the full ref to be exact. Raises NotFound."""
        found = self._find(repo_id, [f"{check_ref(rev)}^{{commit}}"])
        if not found:
            raise NotFound(f"there is no commit {rev!r} in this repository", "push it first")
        return found[0]

    def heads(self, repo_id: str) -> dict[str, str]:
        """Branches and Git tags by full name; of an annotated tag the commit it points to."""
        form = "--format=%(refname) %(objectname) %(*objectname)"
        out = self.ask(repo_id, ["for-each-ref", form, "refs/heads", "refs/tags"])
        rows = (line.split(" ") for line in out.decode("utf-8", "surrogateescape").splitlines())
        return {row[0]: row[2] or row[1] for row in rows}

    def has_ref(self, repo_id: str, ref: str) -> bool:
        if (self._open(repo_id) / ref).is_file():  # the usual case needs no process; packed refs do
            return True
        return self._answer(repo_id, ["show-ref", "--verify", "--quiet", "--", ref])[0] == 0

    def changed_paths(self, repo_id: str, before: str, after: str) -> tuple[str, ...] | None:
        """Paths that differ between two commits; None when that cannot be said (a new branch, a commit that is not
        here, or more than MAX_CHANGED_PATHS)."""
        if is_zero(check_sha(before)) or is_zero(check_sha(after)):
            return None
        argv = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--end-of-options", before, after]
        code, out = self._answer(repo_id, argv)
        paths = tuple(path.decode("utf-8", "surrogateescape") for path in out.split(b"\0") if path)
        return paths if code == 0 and len(paths) <= MAX_CHANGED_PATHS else None

    def merge_base(self, repo_id: str, one: str, other: str) -> str | None:
        """The commit two lines of work parted at; None when they share none or one is not here."""
        argv = ["merge-base", check_sha(one), check_sha(other)]
        code, out = self._answer(repo_id, argv)
        return out.decode().strip() if code == 0 else None

    # How git is asked

    def ask(
        self,
        repo_id: str,
        argv: Sequence[str],
        stdin: bytes | None = None,
        settings: Sequence[tuple[str, str]] = (),
        timeout_s: float = _ANSWER_S,
    ) -> bytes:
        """What one git command in the repository says; `settings` are for it alone. Raises GitFailed and NotFound."""
        env = self._environment(repo_id, settings)
        return git(argv, cwd=self._open(repo_id), env=env, stdin=stdin, timeout_s=timeout_s)

    def contents(self, repo_id: str, objects: Sequence[str]) -> list[Answer]:
        """What the objects hold. Answers after one that is too large are left out: the command is ended there."""
        if not objects:
            return []
        if any("\n" in name for name in objects):
            raise Invalid("a path with a line break cannot be read")
        lines = "".join(f"{name}\n" for name in objects).encode("utf-8", "surrogateescape")
        argv, env = ["cat-file", "--batch"], self._environment(repo_id)
        with git_stream(argv, cwd=self._open(repo_id), env=env, stdin=lines) as stream:
            return list(read_answers(stream, len(objects), MAX_COMMIT_BYTES))

    def update_refs(self, repo_id: str, commands: Sequence[str]) -> None:
        """Commands of `update-ref --stdin -z`, all or none of them. Raises GitFailed."""
        if commands:
            self.ask(repo_id, ["update-ref", "--stdin", "-z"], stdin="".join(commands).encode())

    def transfer(
        self, repo_id: str, argv: Sequence[str], *, settings: Sequence[tuple[str, str]], check: Callable[[], None]
    ) -> None:
        """Run a command that brings commits from elsewhere, with `settings` for it alone. `check` is called several
        times a second, and what it raises ends git. Raises GitFailed."""
        env = {**self._environment(repo_id, settings), "GIT_ALLOW_PROTOCOL": "https:http", "GIT_ASKPASS": "true"}
        git_watched(argv, cwd=self._open(repo_id), env=env, check=check)

    def _open(self, repo_id: str) -> Path:
        if not self.exists(repo_id):
            raise NotFound("there is no such repository on this server", "push to it to make it")
        return self.path(repo_id)

    def _environment(self, repo_id: str, more: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
        """The repository is named outright, so that git searches no parent folder and trusts this one folder."""
        path = str(self.path(repo_id))
        return {"GIT_DIR": path, **config_environment([*DURABLE, ("safe.directory", path), *more])}

    def _answer(self, repo_id: str, argv: Sequence[str]) -> tuple[int, bytes]:
        """Of a question that git answers by its exit status: that, and what it wrote."""
        code, out, _ = git_result(argv, cwd=self._open(repo_id), env=self._environment(repo_id))
        return code, out

    def _find(self, repo_id: str, objects: Sequence[str]) -> list[str]:
        """The ids of those objects that exist. Names go in by standard input, where nothing is an option."""
        if not objects:
            return []
        lines = "".join(f"{name}\n" for name in objects).encode()
        out = self.ask(repo_id, ["cat-file", "--batch-check=%(objectname)"], stdin=lines)
        return [line for line in out.decode("utf-8", "replace").splitlines() if " " not in line]
