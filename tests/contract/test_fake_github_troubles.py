"""The fake GitHub plays faults, renames, lost webhooks and a delivery log as GitHub does."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fake_github import FakeGitHub
from fake_github_scene import REPO, Receiver, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    receiver = Receiver()
    with FakeGitHub(tmp_path / "github") as github:
        github.check_answers = True
        yield Scene(github, receiver)
        github.flush()
    receiver.close()


def status(scene: Scene, **body: Any) -> requests.Response:
    sha = scene.github.head(REPO)
    return scene.call("POST", f"/repos/{REPO}/statuses/{sha}", json={"state": "success", "context": "x", **body})


# Faults


def test_limits_and_broken_servers_by_count_and_path(scene: Scene) -> None:
    faults = scene.github.faults
    faults.secondary_limit("/statuses", retry_after=7, method="POST")
    faults.primary_limit("/statuses", reset_in_s=30, method="POST")
    faults.too_many("/statuses", retry_after=None, method="POST")
    faults.error(502, "/statuses", method="POST", count=2)
    answers = [status(scene) for _ in range(6)]
    assert [a.status_code for a in answers] == [403, 403, 429, 502, 502, 201]
    assert answers[0].headers["retry-after"] == "7" and "secondary rate limit" in answers[0].json()["message"]
    assert answers[1].headers["x-ratelimit-remaining"] == "0"
    assert 25 < int(answers[1].headers["x-ratelimit-reset"]) - time.time() <= 31
    assert "retry-after" not in answers[2].headers
    assert scene.call("GET", f"/repos/{REPO}").status_code == 200
    assert {c.installation for c in scene.github.writes("/statuses")} == {scene.installation}
    assert [c.fault for c in scene.github.writes("/statuses")][:2] == ["secondary limit", "primary limit"]
    assert len(scene.github.writes("/statuses", done=True)) == 1


def test_a_lost_answer_is_work_done_and_a_dropped_call_is_not(scene: Scene) -> None:
    scene.github.faults.lose_answer("/statuses")
    with pytest.raises(requests.ConnectionError):
        status(scene)
    assert len(scene.github.all_statuses(REPO, scene.github.head(REPO))) == 1
    scene.github.faults.drop("/statuses")
    with pytest.raises(requests.ConnectionError):
        status(scene)
    assert len(scene.github.all_statuses(REPO, scene.github.head(REPO))) == 1
    assert [c.status for c in scene.github.writes("/statuses")] == [201, 0]


def test_hanging_delays_and_outages(scene: Scene) -> None:
    scene.github.faults.hang(5, "/statuses")
    with pytest.raises(requests.Timeout):
        requests.get(f"{scene.github.api_url}/statuses", timeout=0.2)
    scene.github.delay_ms = 50
    began = time.monotonic()
    assert scene.call("GET", f"/repos/{REPO}").status_code == 200
    assert time.monotonic() - began >= 0.05
    scene.github.delay_ms = 0
    with scene.github.outage():
        assert scene.call("GET", f"/repos/{REPO}").status_code == 503
        assert requests.get(f"{scene.github.url}/{REPO}.git/info/refs", timeout=20).status_code == 503
    with scene.github.outage("reset"), pytest.raises(requests.ConnectionError):
        scene.call("GET", f"/repos/{REPO}")
    assert scene.call("GET", f"/repos/{REPO}").status_code == 200
    scene.github.faults.error(500, count=None, for_s=60)
    assert [scene.call("GET", f"/repos/{REPO}").status_code for _ in range(3)] == [500] * 3


def test_pacing_refuses_writes_side_by_side_and_more_than_80_a_minute(scene: Scene) -> None:
    scene.github.enforce_pacing = True
    codes = [status(scene).status_code for _ in range(81)]
    assert codes == [201] * 80 + [403]
    scene.github.budget.enforce_pacing = False
    assert status(scene).status_code == 201


def test_two_writes_at_once_are_refused(scene: Scene) -> None:
    scene.github.enforce_pacing = True
    codes: list[int] = []
    with scene.github.lock:  # both are at the door before either can be done
        threads = [threading.Thread(target=lambda: codes.append(status(scene).status_code)) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while not codes and time.monotonic() < deadline:
            time.sleep(0.005)
    for thread in threads:
        thread.join(20)
    assert sorted(codes) == [201, 403]


def test_what_has_not_changed_costs_nothing(scene: Scene) -> None:
    first = scene.call("GET", f"/repos/{REPO}")
    again = scene.call("GET", f"/repos/{REPO}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["x-ratelimit-used"] == first.headers["x-ratelimit-used"] == "1"
    scene.github.budget.per_hour = 2
    assert [scene.call("GET", f"/repos/{REPO}").status_code for _ in range(2)] == [200, 403]


# Names


def test_a_renamed_repository_redirects_and_a_moved_one_is_gone_for_the_installation(scene: Scene) -> None:
    scene.github.rename_repo(REPO, "sight")
    assert scene.get(f"/repos/{REPO}")["full_name"] == "acme/sight"
    posted = scene.call("POST", f"/repos/{REPO}/statuses/{scene.github.head('acme/sight')}", json={"state": "error"})
    assert (posted.status_code, posted.history[0].status_code) == (201, 307)
    address = f"{scene.github.url}/{REPO}.git/info/refs?service=git-upload-pack"
    assert requests.get(address, auth=("x-access-token", scene.token), timeout=20).history[0].status_code == 301
    scene.github.transfer_repo("acme/sight", "umbrella")
    assert scene.call("GET", "/repos/acme/sight").status_code == 404
    scene.github.flush()
    assert scene.receiver.events("repository")[0]["changes"]["repository"]["name"]["from"] == "vision"
    assert scene.receiver.events("installation_repositories")[-1]["action"] == "removed"


def test_a_merge_and_a_merge_group(scene: Scene) -> None:
    github = scene.github
    github.push(REPO, "f", {"b.py": "1\n"})
    number = github.open_pull(REPO, "f", draft=True)
    github.ready(REPO, number)
    ref = github.merge_group(REPO, "main", github.head(REPO, "f"), number)
    sha = github.merge_pull(REPO, number)
    github.flush()
    assert [e["action"] for e in scene.receiver.events("pull_request")] == ["opened", "ready_for_review", "closed"]
    assert scene.receiver.events("pull_request")[-1]["pull_request"]["merge_commit_sha"] == sha
    (group,) = scene.receiver.events("merge_group")
    assert group["merge_group"]["head_ref"] == ref
    assert scene.get(f"/repos/{REPO}/commits/main")["sha"] == sha
    assert len(scene.get(f"/repos/{REPO}/commits/main")["parents"]) == 2


# Webhooks


def test_dropped_lost_held_doubled_and_shuffled(scene: Scene) -> None:
    github, hooks = scene.github, scene.github.webhooks
    github.flush()
    before = len(scene.receiver.came)
    hooks.drop(1, "push")
    hooks.lose(1, "push")
    github.push(REPO, "main", {"a": "1"})
    lost = github.push(REPO, "main", {"a": "2"})
    github.flush()
    assert "push" not in scene.receiver.names[before:]
    failed = scene.as_app("GET", "/app/hook/deliveries?status=failure").json()
    assert [d["event"] for d in failed] == ["push"]
    whole = scene.as_app("GET", f"/app/hook/deliveries/{failed[0]['id']}").json()
    assert whole["request"]["payload"]["after"] == lost
    assert scene.as_app("POST", f"/app/hook/deliveries/{failed[0]['id']}/attempts").status_code == 202
    github.flush()
    (headers, _) = scene.receiver.came[-1]
    assert headers["x-github-delivery"] == failed[0]["guid"]
    log = scene.as_app("GET", "/app/hook/deliveries").json()
    assert log[0]["guid"] == failed[0]["guid"] and log[0]["redelivery"] and log[0]["id"] != failed[0]["id"]

    hooks.heal()
    hooks.double()
    hooks.hold()
    shas = [github.push(REPO, "main", {"a": str(n)}) for n in range(3, 9)]
    github.flush()
    arrived = len(scene.receiver.came)
    hooks.release(random.Random(1))
    github.flush()
    late = [e["after"] for e in scene.receiver.events("push")][1:]
    assert len(scene.receiver.came) > arrived
    assert sorted(late) == sorted(shas * 2) and late != [sha for sha in shas for _ in range(2)]


def test_the_delivery_log_is_paged_and_forgets(tmp_path: Path) -> None:
    now = [time.time()]
    receiver = Receiver()
    with FakeGitHub(tmp_path, clock=lambda: now[0]) as github:
        scene = Scene(github, receiver)
        scene.app.webhook_url = ""  # nobody listens: polling
        for number in range(130):
            github.send_raw("push", {"n": number})
        github.flush()
        first = scene.as_app("GET", "/app/hook/deliveries?per_page=100")
        assert len(first.json()) == 100 and first.json()[0]["status_code"] == 0
        rest = scene.as_app("GET", first.links["next"]["url"].removeprefix(github.api_url))
        assert len(rest.json()) == 31 and "next" not in rest.links  # and the installation's
        now[0] += 4 * 24 * 3600
        headers = {"Authorization": f"Bearer {scene.jwt(iat=int(now[0]) - 5, exp=int(now[0]) + 300)}"}
        assert requests.get(github.api_url + "/app/hook/deliveries", headers=headers, timeout=20).json() == []
        assert not github.violations
    receiver.close()


def test_refused_and_unreachable_receivers_are_logged(scene: Scene) -> None:
    scene.receiver.status = 500
    scene.github.push(REPO, "main", {"a": "1"})
    scene.github.flush()
    scene.app.webhook_url = "http://127.0.0.1:9/nobody"
    scene.github.send_raw("push", {}, guid="one", sign=False)
    scene.github.flush()
    log = scene.as_app("GET", "/app/hook/deliveries").json()
    assert (log[0]["guid"], log[0]["status"]) == ("one", "failed to connect to host")
    assert log[1]["status_code"] == 500


def test_webhooks_may_arrive_side_by_side_and_huge_ones_never(scene: Scene) -> None:
    scene.github.webhooks.at_once(4)
    scene.github.webhooks.hold()
    sent = {scene.github.send_raw("push", {"n": number}) for number in range(40)}
    assert scene.github.send_raw("push", {"n": "x" * 26 * 1024 * 1024}) is None
    scene.github.webhooks.release()
    scene.github.flush()
    assert {h["x-github-delivery"] for h, _ in scene.receiver.came if h["x-github-event"] == "push"} == sent
