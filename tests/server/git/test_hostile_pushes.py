"""Commits made to mislead those who clone them later: what the remote's own check refuses at the push."""

from __future__ import annotations

import subprocess

import pytest
from served_git import Clone, Served

REPO = "local-demo"


def commit_modules(clone: Clone, modules: str) -> str:
    """A commit that has a submodule and this `.gitmodules`."""
    clone.commit("one")
    made = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=clone.folder, input=modules.encode(), capture_output=True,
        check=True,
    )  # fmt: skip
    lines = f"100644 blob {made.stdout.decode().strip()}\t.gitmodules\n160000 commit {'1' * 40}\tsub\n"
    tree = subprocess.run(
        ["git", "mktree", "--missing"], cwd=clone.folder, input=lines.encode(), capture_output=True, check=True
    )
    return clone.git("commit-tree", tree.stdout.decode().strip(), "-m", "evil")


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ('[submodule "../../hooks"]\n\tpath = sub\n\turl = https://h/o\n', "gitmodulesName"),
        ('[submodule "x"]\n\tpath = -x\n\turl = https://h/o\n', "gitmodulesPath"),
        ('[submodule "x"]\n\tpath = sub\n\turl = -uX\n', "gitmodulesUrl"),
        ('[submodule "x"]\n\tpath = sub\n\turl = "https://h/\\n:x/o"\n', "gitmodulesUrl"),
        ('[submodule "x"]\n\tpath = sub\n\turl = https://h/o\n\tupdate = !id\n', "gitmodulesUpdate"),
    ],
)
def test_submodules_that_attack_a_clone_are_refused(served: Served, clone: Clone, modules: str, said: str) -> None:
    evil = commit_modules(clone, modules)
    pushed = clone.push(f"{evil}:refs/heads/main", check=False)
    assert pushed.returncode == 1 and said in pushed.stderr, pushed.stderr
    assert served.repositories.heads(REPO) == {}


def test_a_plain_submodule_comes_in(served: Served, clone: Clone) -> None:
    plain = commit_modules(clone, '[submodule "x"]\n\tpath = sub\n\turl = https://h/o\n')
    clone.push(f"{plain}:refs/heads/main")
    assert served.repositories.heads(REPO) == {"refs/heads/main": plain}
