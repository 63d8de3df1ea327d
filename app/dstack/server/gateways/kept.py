"""Which commits a repository of ours holds whatever happens to branches: those of runs, and shipped working trees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dstack.errors import Invalid
from dstack.git.names import check_ref, check_sha
from dstack.git.pushes import RUN_REFS, WORK_REFS
from dstack.server.gateways.local_git import LocalGit


def keep_commits(git: LocalGit, repo_id: str, runs: Mapping[str, str]) -> None:
    """Hold the commits of runs (name -> commit) for as long as the runs live: all of them or none. Raises GitFailed."""
    git.update_refs(repo_id, [f"update {_run_ref(name)}\0{check_sha(sha)}\0\0" for name, sha in runs.items()])


def keep_present(git: LocalGit, repo_id: str, runs: Mapping[str, str]) -> None:
    """The same for those whose commit is (still) here: git takes all refs of a call or none."""
    present = git.find_commits(repo_id, set(runs.values()))
    keep_commits(git, repo_id, {name: sha for name, sha in runs.items() if sha in present})


def drop_commits(git: LocalGit, repo_id: str, names: Iterable[str]) -> None:
    """Let go of the commits of runs that are gone; done when they were not kept."""
    git.update_refs(repo_id, [f"delete {_run_ref(name)}\0\0" for name in names])


def work_refs(git: LocalGit, repo_id: str) -> dict[str, str]:
    """Working trees that were shipped: name -> commit."""
    out = git.ask(repo_id, ["for-each-ref", "--format=%(refname) %(objectname)", WORK_REFS])
    rows = (line.split(" ") for line in out.decode().splitlines())
    return {ref.removeprefix(WORK_REFS): sha for ref, sha in rows}


def drop_work(git: LocalGit, repo_id: str, name: str) -> None:
    """Remove refs/dstack/work/<name>, once its run keeps the commit or when nobody made a run of it."""
    git.update_refs(repo_id, [f"delete {check_ref(WORK_REFS + name)}\0\0"])


def _run_ref(name: str) -> str:
    if "/" in name:
        raise Invalid(f"{name!r} is not the name of a run")
    return check_ref(RUN_REFS + name)
