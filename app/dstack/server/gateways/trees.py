"""What a commit's files are, as one digest: the tree of the whole commit, or of the paths that some patterns name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from dstack.git.names import check_sha
from dstack.server.gateways.local_git import LocalGit


def whole_tree(git: LocalGit, repo_id: str, sha: str) -> str:
    """The id of the commit's tree."""
    return (
        git.ask(repo_id, ["rev-parse", "--verify", "--end-of-options", f"{check_sha(sha)}^{{tree}}"]).decode().strip()
    )


def tree_of_paths(git: LocalGit, repo_id: str, sha: str, wanted: Callable[[str], bool]) -> str:
    """A digest over mode, content and path of every file that is wanted."""
    digest = hashlib.sha256()
    for row in git.ask(repo_id, ["ls-tree", "-r", "-z", "--full-tree", check_sha(sha)]).split(b"\0"):
        _, _, path = row.partition(b"\t")
        if path and wanted(path.decode("utf-8", "surrogateescape")):
            digest.update(len(row).to_bytes(4, "big") + row)
    return digest.hexdigest()
