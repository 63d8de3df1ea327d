"""Who may push to a repository that lives on GitHub, and what the token of an attempt opens there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served_api import Api, Held, WorkingCopy, serve, unique
from sqlmodel import Session

from dstack.server.gateways.kept import work_refs
from dstack.server.gateways.mirrors import fork_id
from dstack.server.models import Repo, Run
from dstack.server.models.repo import GITHUB
from dstack.server.store.repos import repo_by_id
from dstack.server.store.runs import run_by_name


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serve(tmp_path_factory.mktemp("api")) as served:
        yield served


@pytest.fixture
def copy(api: Api) -> WorkingCopy:
    """A repository with a commit, that has been found on GitHub since."""
    work = api.working_copy(f"acme/{unique('vision')}")
    work.commit({"train.py": "print()"})
    work.push()
    repo_id = api.repo_id(work.repo)

    def adopt(session: Session) -> None:
        repo = repo_by_id(session, repo_id)
        repo.forge, repo.forge_id = GITHUB, str(repo_id)
        session.add(repo)

    api.wiring.db.write(adopt)
    return work


def test_branches_and_tags_are_pushed_to_github_alone(api: Api, copy: WorkingCopy) -> None:
    before = api.wiring.git.heads(str(api.repo_id(copy.repo)))
    copy.commit({"train.py": "print(2)"})
    for ref in ("main", "HEAD:refs/heads/new", "HEAD:refs/tags/v1", "HEAD:refs/notes/mine"):
        assert f"{copy.repo} lives on GitHub: push there" in copy.push(ref, fails=True)
    assert "by the server alone" in copy.push("HEAD:refs/notes/dstack", fails=True)
    assert api.wiring.git.heads(str(api.repo_id(copy.repo))) == before


def test_a_working_tree_is_shipped_as_ever(api: Api, copy: WorkingCopy) -> None:
    sha = copy.commit({"train.py": "print(3)"})
    copy.push("HEAD:refs/dstack/work/key-1")
    assert work_refs(api.wiring.git, str(api.repo_id(copy.repo))) == {"key-1": sha}
    copy.push("HEAD:refs/dstack/runs/key-1", fails=True)


def test_a_member_pushes_no_more_than_an_admin(api: Api, copy: WorkingCopy) -> None:
    _, token = api.member()
    copy.commit({"train.py": "print(4)"})
    assert "lives on GitHub" in copy.push("main", token=token, fails=True)


def test_it_is_read_as_any_other(copy: WorkingCopy) -> None:
    assert copy.git("rev-parse", "HEAD") in copy.git("ls-remote", copy.address())


# The token of an attempt


def fork_of(api: Api, copy: WorkingCopy) -> tuple[str, str]:
    """A stranger's commit in a bare repository of its own, as a fetch would have left it."""
    fork = fork_id(str(api.repo_id(copy.repo)), 5)
    path = api.wiring.git.create(fork)
    borrowed = api.wiring.git.path(str(api.repo_id(copy.repo))) / "objects"
    (path / "objects/info").mkdir(exist_ok=True)
    (path / "objects/info/alternates").write_text(f"{borrowed}\n")
    sha = copy.commit({"train.py": "print('stranger')"})
    copy.git("push", "-q", str(path), "HEAD:refs/pull/5/head")
    return fork, sha


def attempt_at(api: Api, copy: WorkingCopy, sha: str, objects: str) -> Held:
    held = api.attempt(repo=copy.repo)

    def move(session: Session) -> None:
        run: Run | None = run_by_name(session, held.run)
        assert run is not None
        run.sha, run.objects = sha, objects
        session.add(run)

    api.wiring.db.write(move)
    return held


def fetch(held: Held, copy: WorkingCopy, sha: str, *, fails: bool = False) -> str:
    here = WorkingCopy(copy.api, copy.repo, copy.api.folder / f"checkout-{held.attempt}-{sha[:6]}")
    return here.git("fetch", "-q", here.address(held.order["clone_token"]), sha, fails=fails)


def test_a_run_of_a_fork_is_served_from_the_fork_s_repository(api: Api, copy: WorkingCopy) -> None:
    base = copy.git("rev-parse", "HEAD")
    fork, sha = fork_of(api, copy)
    held = attempt_at(api, copy, sha, fork)
    assert held.order["clone_path"] == f"/git/{copy.repo}.git"
    fetch(held, copy, sha)
    here = api.folder / f"checkout-{held.attempt}-{sha[:6]}"
    assert copy.git("-C", str(here), "cat-file", "-t", base).strip() == "commit"  # its base, which the fork borrows


def test_a_run_of_the_repo_itself_reaches_nothing_of_a_fork(api: Api, copy: WorkingCopy) -> None:
    base = copy.git("rev-parse", "HEAD")
    _, sha = fork_of(api, copy)
    held = attempt_at(api, copy, base, "")
    fetch(held, copy, base)
    fetch(held, copy, sha, fails=True)


def test_nobody_else_opens_a_fork_s_repository(api: Api, copy: WorkingCopy) -> None:
    fork, sha = fork_of(api, copy)
    held = attempt_at(api, copy, sha, fork)
    address = copy.address(held.order["clone_token"])
    copy.git("fetch", "-q", address.replace(copy.repo, f"acme/{fork}"), sha, fails=True)
    assert "only reads" in copy.git("push", address, "HEAD:refs/dstack/work/x", fails=True)
    stranger = WorkingCopy(api, copy.repo, api.folder / "stranger")
    stranger.git("fetch", "-q", stranger.address(), sha, fails=True)  # an admin's address is the repo itself
    assert api.wiring.db.read(lambda s: s.get(Repo, api.repo_id(copy.repo)))
