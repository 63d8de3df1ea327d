"""From an event to its runs, once: pushes, requests by hand, keys that stop a second run, losses and failures."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from served_api import Api, WorkingCopy, serve, unique, wait_for
from sqlmodel import col, delete, select

from dstack.server.bootstrap import start as start_core
from dstack.server.handlers import HANDLERS
from dstack.server.models import Delivery, Head, OutboxMark
from dstack.server.models.delivery import DeliveryState
from dstack.server.models.token import TokenKind
from dstack.server.services.reconcile_heads import reconcile_heads
from dstack.server.services.settle_delivery import MAX_TRIES
from dstack.server.settings import Settings
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.wiring import Wiring

WORKFLOWS = """
workflows:
  - name: train
    provider: bash
    commands: ["true"]
    resources: {labels: [nobody]}
    on: push
  - name: tune
    provider: bash
    commands: ["echo ${{ lr }}"]
    resources: {labels: [nobody]}
    on: manual
"""
VARIABLES = "variables: {tune: {lr: 0.1}}\n"
PROJECT = {".dstack/workflows.yaml": WORKFLOWS, ".dstack/variables.yaml": VARIABLES}


@pytest.fixture
def copy(api: Api) -> WorkingCopy:
    return api.working_copy()


def deliveries(api: Api, repo: str) -> list[Delivery]:
    repo_id = api.repo_id(repo)
    query = select(Delivery).where(Delivery.repo_id == repo_id).order_by(col(Delivery.id))
    return api.wiring.db.read(lambda s: list(s.exec(query).all()))


def settled(api: Api, repo: str) -> list[Delivery]:
    """All deliveries of the repo, once none is open."""

    def look() -> list[Delivery]:
        found = deliveries(api, repo)
        return [] if any(d.state is DeliveryState.RECEIVED for d in found) else found

    return wait_for(look)


# Pushes


def test_a_push_says_which_runs_it_started(api: Api, copy: WorkingCopy) -> None:
    sha = copy.commit(PROJECT)
    said = copy.push()
    (run,) = copy.runs()
    assert f"remote: dstack: train  {run['name']}" in said and f"/runs/{run['name']}" in said
    assert (run["workflow"], run["sha"], run["branch"], run["trigger"]) == ("train", sha, "main", "push")
    (delivery,) = settled(api, copy.repo)
    assert (delivery.state, delivery.sender) == (DeliveryState.PROCESSED, "admin")


def test_the_same_push_told_twice_makes_one_run(api: Api, copy: WorkingCopy) -> None:
    """B11, B13: the same event under the same or another guid."""
    sha = copy.commit(PROJECT)
    copy.push()
    body = {"updates": [{"ref": "refs/heads/main", "old": "0" * 40, "new": sha}]}
    repo_id, now = api.repo_id(copy.repo), api.clock.now()
    for guid in ("again-1", "again-1", "again-2"):
        api.wiring.db.write(
            lambda s, g=f"{copy.repo}:{guid}": receive_delivery(
                s, "push", g, body, repo_id=repo_id, sender="ada", now=now
            )
        )
    found = settled(api, copy.repo)
    assert [d.state for d in found] == [DeliveryState.PROCESSED, DeliveryState.IGNORED, DeliveryState.IGNORED]
    assert "has been run before" in found[1].reason
    assert len(copy.runs()) == 1


def test_going_back_to_a_commit_starts_nothing_new(copy: WorkingCopy) -> None:
    first = copy.commit(PROJECT)
    copy.push()
    copy.commit({"train.py": "2"})
    copy.push()
    copy.git("reset", "-q", "--hard", first)
    copy.push("+main")
    assert len(copy.runs()) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({".dstack/workflows.yaml": "workflows:\n  - name: train\n    provder: bash\n"}, "workflows.yaml:3:5"),
        ({".dstack/workflows.yaml": "workflows: [\n"}, "workflows.yaml:2:"),
        ({".dstack/workflows.yaml": "a: &a [*a, *a]\n"}, "workflows.yaml:1:"),
        ({"README.md": "no workflows"}, "no .dstack/workflows.yaml"),
    ],
)
def test_problems_of_the_files_are_told_to_the_pusher(
    api: Api, copy: WorkingCopy, files: dict[str, str], said: str
) -> None:
    copy.commit(files)
    assert said in copy.push()
    assert copy.runs() == []
    (delivery,) = settled(api, copy.repo)
    assert delivery.state is (DeliveryState.IGNORED if "README.md" in files else DeliveryState.FAILED)
    copy.commit(PROJECT, "mended")
    copy.push()
    assert [run["workflow"] for run in copy.runs()] == ["train"]


def test_a_bad_branch_does_not_hold_up_the_good_one(api: Api, copy: WorkingCopy) -> None:
    copy.commit(PROJECT)
    copy.git("branch", "good")
    copy.git("checkout", "-q", "-b", "bad")
    copy.commit({".dstack/workflows.yaml": "workflows: 5\n"})
    said = copy.git("push", copy.address(), "good", "bad")
    assert "workflows.yaml:1:" in said
    assert [run["branch"] for run in copy.runs()] == ["good"]
    (delivery,) = settled(api, copy.repo)
    assert delivery.state is DeliveryState.FAILED


@pytest.mark.parametrize("branch", ["$(touch${IFS}x)", "a'b", 'a"b', "<script>alert(1)</script>", "é-🚀", "x" * 240])
def test_odd_branch_names_are_text(api: Api, copy: WorkingCopy, branch: str) -> None:
    """B20."""
    copy.commit(PROJECT)
    copy.push(f"main:refs/heads/{branch}")
    (run,) = copy.runs()
    assert run["branch"] == branch
    page = api.call("GET", f"/runs/{run['name']}", None, cookies=cookies(api))
    assert page.status_code == 200 and "<script>alert" not in page.text


def cookies(api: Api) -> dict[str, str]:
    return {"dstack_session": api.token(TokenKind.SESSION)}


def test_deleting_a_branch_starts_nothing(api: Api, copy: WorkingCopy) -> None:
    """B15."""
    copy.commit(PROJECT)
    copy.push()
    copy.push("main:side")
    copy.push(":side")
    assert len(copy.runs()) == 2
    assert settled(api, copy.repo)[-1].state is DeliveryState.IGNORED


# Requests by hand


def start(api: Api, copy: WorkingCopy, commit: str, **more: Any) -> Any:
    body = {"repo": copy.repo, "sha": commit, "workflow": "tune", "branch": "main"} | more
    return api.call("POST", "/api/v1/runs", json=body)


def test_a_repeated_request_answers_with_the_same_run(api: Api, copy: WorkingCopy) -> None:
    """B104: a lost answer, a retry while the first is under way, or the same key much later."""
    sha = copy.commit(PROJECT)
    copy.push()
    key = unique("key")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: start(api, copy, sha, idempotency_key=key), range(6)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["runs"][0]["name"] for a in answers}) == 1
    assert len(copy.runs()) == 2
    other = start(api, copy, sha, idempotency_key=key, variables={"lr": "0.5"})
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    assert start(api, copy, sha).json()["runs"][0]["name"] != answers[0].json()["runs"][0]["name"]
    elsewhere = api.working_copy()
    sha = elsewhere.commit(PROJECT)
    elsewhere.push()
    assert start(api, elsewhere, sha, idempotency_key=key).status_code == 201


def test_variables_override_the_file(api: Api, copy: WorkingCopy) -> None:
    sha = copy.commit(PROJECT)
    copy.push()
    run = start(api, copy, sha, variables={"lr": "$(id) 'x\""}).json()["runs"][0]
    assert run["variables"]["lr"] == "$(id) 'x\"" and run["trigger"] == "manual"


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"workflow": "nope"}, 422, "train"),
        ({"workflow": ""}, 422, "workflow"),
        ({"provider": "bash"}, 422, "workflow"),
        ({"workflow": "", "provider": "nope"}, 422, "nope"),
        ({"workflow": "", "provider": "bash", "options": {"nope": 5}}, 422, "nope"),
        ({"variables": {"nope": "1"}}, 422, "nope"),
        ({"sha": "0" * 40}, 404, "commit"),
        ({"sha": "main"}, 422, ""),
        ({"sha": "--upload-pack=x"}, 422, ""),
        ({"repo": "local/absent"}, 404, "local/absent"),
        ({"repo": "../x"}, 404, ""),
        ({"parent": "-x"}, 422, ""),
        ({"parent": "1" * 40}, 422, ""),
        ({"variables": {"lr": "a\0b"}}, 422, ""),
        ({"branch": "a\0b"}, 422, "control"),
        ({"branch": "a\nb"}, 422, "control"),
        ({"branch": "../.."}, 422, ""),
        ({"branch": "x" * 10_000}, 422, "longer"),
        ({"idempotency_key": "x" * 10_000}, 422, "key"),
    ],
    ids=str,
)
def test_impossible_requests_are_refused_with_a_word(
    api: Api, copy: WorkingCopy, more: dict[str, Any], status: int, said: str
) -> None:
    sha = copy.commit(PROJECT)
    copy.push()
    answer = start(api, copy, sha, **more)
    assert answer.status_code == status, answer.text
    assert said in answer.text and "Traceback" not in answer.text
    assert len(copy.runs()) == 1


def test_a_commit_of_another_repository_is_absent(api: Api, copy: WorkingCopy) -> None:
    """B51: objects of repositories are kept apart, so an id alone opens nothing, as a parent neither."""
    own = copy.commit(PROJECT)
    copy.push()
    other = api.working_copy()
    theirs = other.commit({**PROJECT, "secret.py": "theirs"})
    other.push()
    assert theirs != own and start(api, other, theirs).status_code == 201
    before = len(copy.runs())
    for more in ({"sha": theirs}, {"parent": theirs}):
        answer = start(api, copy, own, **more)
        assert answer.status_code in (404, 422), answer.text
    assert len(copy.runs()) == before


def test_a_request_for_a_commit_whose_files_are_wrong_names_the_place(api: Api, copy: WorkingCopy) -> None:
    sha = copy.commit({".dstack/workflows.yaml": "workflows:\n  - nme: tune\n"})
    copy.push()
    answer = start(api, copy, sha)
    assert (answer.status_code, answer.json()["error"]) == (422, "config")
    assert ".dstack/workflows.yaml:2:5" in answer.json()["message"]


# What breaks


@pytest.fixture
def breaking() -> Iterator[list[int]]:
    """A kind of delivery whose handler breaks; the list has the tries."""
    tries: list[int] = []

    def handler(wiring: Wiring, delivery: Delivery) -> None:
        tries.append(delivery.id or 0)
        raise RuntimeError("the inside of the server")

    HANDLERS["breaking"] = handler
    yield tries
    del HANDLERS["breaking"]


def file_delivery(api: Api, repo: str, kind: str) -> None:
    repo_id, now = api.repo_id(repo), api.clock.now()
    guid = unique(kind)
    api.wiring.db.write(lambda s: receive_delivery(s, kind, guid, {}, repo_id=repo_id, sender="ada", now=now))


def test_a_handler_that_breaks_is_tried_again_and_then_fails(
    api: Api, copy: WorkingCopy, breaking: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    copy.commit({"a": "1"})
    copy.push()
    file_delivery(api, copy.repo, "breaking")
    delivery = settled(api, copy.repo)[-1]
    assert (delivery.state, delivery.tries) == (DeliveryState.FAILED, MAX_TRIES)
    assert delivery.reason == "internal error: RuntimeError"
    assert len(breaking) == MAX_TRIES
    copy.commit(PROJECT)
    copy.push()
    assert len(copy.runs()) == 1


def test_a_kind_nobody_knows_is_put_aside(api: Api, copy: WorkingCopy) -> None:
    """B14."""
    copy.commit({"a": "1"})
    copy.push()
    file_delivery(api, copy.repo, "from-the-future")
    delivery = settled(api, copy.repo)[-1]
    assert (delivery.state, delivery.reason) == (DeliveryState.IGNORED, "nothing handles from-the-future")


# What is lost


def test_a_push_whose_delivery_was_lost_is_found_once(api: Api, copy: WorkingCopy) -> None:
    """The server died between the ref and the row: the reconciler files what is missing."""
    copy.commit({"a": "1"})
    copy.push()
    repo_id = api.repo_id(copy.repo)
    sha = copy.commit(PROJECT)
    copy.git("push", "-q", str(api.wiring.git.path(str(repo_id))), "HEAD:refs/heads/main")  # no hook: nobody is told
    assert copy.runs() == []
    assert reconcile_heads(api.wiring) >= 1
    (run,) = wait_for(copy.runs)
    assert (run["sha"], run["branch"], run["trigger"]) == (sha, "main", "push")
    settled(api, copy.repo)
    before = len(deliveries(api, copy.repo))
    reconcile_heads(api.wiring)
    assert len(settled(api, copy.repo)) == before


def test_losing_the_memory_of_heads_makes_no_second_run(api: Api, copy: WorkingCopy) -> None:
    copy.commit(PROJECT)
    copy.push()
    repo_id = api.repo_id(copy.repo)
    api.wiring.db.write(lambda s: s.exec(delete(Head).where(col(Head.repo_id) == repo_id)))
    reconcile_heads(api.wiring)
    assert settled(api, copy.repo)[-1].state is DeliveryState.IGNORED
    assert len(copy.runs()) == 1


def test_a_server_that_died_before_handling_a_push_handles_it_at_its_start(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """I1: what was stored is handled, once."""
    folder = tmp_path_factory.mktemp("restarted")
    with serve(folder) as first:
        copy = first.working_copy("local/mine")
        sha = copy.commit(PROJECT)
        copy.push("main:side")
        body = {"updates": [{"ref": "refs/heads/main", "old": "0" * 40, "new": sha}]}
        repo_id = first.repo_id("local/mine")
    with start_core(Settings(data=folder / "data")) as started:  # no workers: it is stored and nothing more
        now = started.wiring.clock.now()
        started.wiring.db.write(
            lambda s: receive_delivery(s, "push", "push:late", body, repo_id=repo_id, sender="ada", now=now)
        )
    with serve(folder) as second:
        runs = wait_for(
            lambda: [r for r in second.ok("GET", "/api/v1/runs?repo=local/mine")["runs"] if r["branch"] == "main"]
        )
        assert [run["sha"] for run in runs] == [sha]


def test_the_end_of_a_run_is_written_as_a_note(api: Api, copy: WorkingCopy) -> None:
    runner = api.runner()
    labelled = WORKFLOWS.replace("nobody", runner.name)
    sha = copy.commit({**PROJECT, ".dstack/workflows.yaml": labelled})
    copy.push()
    (run,) = copy.runs()
    runner.take(run["name"]).end(metrics={"accuracy": 0.5})

    def noted() -> bool:
        copy.git("fetch", "-q", copy.address(), "+refs/notes/dstack:refs/notes/dstack")
        return run["name"] in copy.git("log", "-1", "--notes=dstack", sha)

    wait_for(lambda: api.wiring.db.read(lambda s: s.exec(select(OutboxMark)).first()) is None)
    assert noted()


def test_the_note_of_a_working_tree_stands_on_its_parent_and_says_so(api: Api, copy: WorkingCopy) -> None:
    runner = api.runner()
    labelled = WORKFLOWS.replace("nobody", runner.name)
    parent = copy.commit({**PROJECT, ".dstack/workflows.yaml": labelled})
    copy.push()
    shipped = copy.commit({"train.py": "changed"})
    copy.push(f"{shipped}:refs/dstack/work/{shipped}")
    run = start(api, copy, shipped, parent=parent).json()["runs"][0]["name"]
    runner.take(run).end(metrics={"accuracy": 0.5})
    wait_for(lambda: api.wiring.db.read(lambda s: s.exec(select(OutboxMark)).first()) is None)
    copy.git("fetch", "-q", copy.address(), "+refs/notes/dstack:refs/notes/dstack")
    note = copy.git("notes", "--ref=dstack", "show", parent)
    assert run in note and "working tree" in note and '"worktree": true' in note.replace('":true', '": true')
    assert shipped not in copy.git("notes", "--ref=dstack", "list")
