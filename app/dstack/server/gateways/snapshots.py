"""A commit and some of its files, read by one git process; what stands in history is left to `history`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstack.errors import Invalid, NotFound
from dstack.git.commits import Answer, Commit, read_commit, tree_modes
from dstack.git.files import folder_of, folders_above, plain_file, what_is
from dstack.git.names import check_sha
from dstack.server.gateways.local_git import LocalGit


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit, and those of the files asked for that it has."""

    commit: Commit
    files: dict[str, bytes]


def commit_info(git: LocalGit, repo_id: str, sha: str) -> Commit:
    """Raises NotFound."""
    return take_snapshot(git, repo_id, sha, ()).commit


def read_files(git: LocalGit, repo_id: str, sha: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Those of `paths` the commit has. Raises NotFound, Invalid for what is not a plain file up to 1 MB, and
    GitFailed."""
    return take_snapshot(git, repo_id, sha, paths).files


def take_snapshot(git: LocalGit, repo_id: str, sha: str, paths: Sequence[str]) -> Snapshot:
    """A commit and some of its files by one git process. A path that is, or lies behind, a symbolic link or a
    submodule is refused and its target never read. Raises NotFound, Invalid and GitFailed."""
    check_sha(sha)
    folders = list(dict.fromkeys(folder_of(path) for path in paths))
    asked = [sha, *(f"{sha}:{folder}" for folder in folders), *(f"{sha}:{path}" for path in paths)]
    answers = git.contents(repo_id, asked)
    if answers[0].kind != "commit" or answers[0].data is None:
        raise NotFound(f"there is no commit {sha} in this repository", "push it first")
    commit = read_commit(sha, answers[0].data)
    trees = dict(zip(folders, answers[1:], strict=False))
    modes = {folder: _modes(git, repo_id, sha, folder, tree) for folder, tree in trees.items()}
    files = {}
    for path, answer in zip(paths, answers[1 + len(folders) :], strict=False):
        mode = modes[folder_of(path)].get(path.rpartition("/")[2])
        if mode is not None:
            files[path] = plain_file(path, sha, mode, answer)
    return Snapshot(commit, files)


def _modes(git: LocalGit, repo_id: str, sha: str, folder: str, tree: Answer) -> dict[str, str]:
    """What the entries of a folder are. An absent folder has none; one that is no folder is refused."""
    if tree.data is not None and tree.kind == "tree":
        return tree_modes(tree.data, len(sha) // 2)
    if tree.kind == "tree":
        raise Invalid(f"{folder or 'the root'}/ at {sha[:12]} has too many entries")
    for part in folders_above(folder):  # rare: look at what stands in the way
        row = git.ask(repo_id, ["ls-tree", "-z", "--end-of-options", sha, part]).decode("utf-8", "replace")
        mode = row.split(" ")[0]
        if mode and mode != "040000":
            raise Invalid(f"{part} at {sha[:12]} is {what_is(mode)}", f"make {part} a plain folder")
    return {}
