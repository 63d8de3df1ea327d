"""The pages of deliveries, of GitHub and of a run there, on the real server: escaped, and replayed by admins alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests
from joined_github import REPO, Joined, joined, workflows
from playwright.sync_api import Browser

from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.models.token import TokenKind
from dstack.server.store.outbox import COMMENT, NOTIFY, STATUS
from dstack.server.store.reports import note_refused

WORD = "\"><script>alert('x')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    with joined(tmp_path_factory.mktemp("pages"), workflows(train="push", check="pull_request")) as scene:
        yield scene


def page(scene: Joined, path: str, cookie: str) -> str:
    answer = scene.api.call("GET", path, token=None, cookies={"dstack_session": cookie})
    assert answer.status_code == 200, answer.text
    return answer.text


def press(scene: Joined, path: str, cookie: str, csrf: str) -> requests.Response:
    return scene.api.call("POST", path, token=None, cookies={"dstack_session": cookie}, data={"csrf": csrf})


def csrf_of(html: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', html)
    assert found
    return found[1]


def test_deliveries_are_listed_and_an_admin_replays_one(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "main", {"a": "1"})
    scene.settle()
    (run,) = scene.runs(sha)
    row = scene.last("push")
    admin = scene.api.token(TokenKind.SESSION)
    html = page(scene, "/deliveries", admin)
    assert f"#{row.id}" in html and f"/runs/{run.name}" in html and "octocat" in html
    path = f"/deliveries/{row.id}/replay"
    assert f'action="{path}"' in html
    assert press(scene, path, admin, "wrong").status_code == 403
    assert scene.last("push").id == row.id
    done = press(scene, path, admin, csrf_of(html))
    assert (done.status_code, done.headers["location"]) == (303, "/deliveries")
    scene.settle()
    assert scene.last("push").replay_of == row.id and len(scene.runs(sha)) == 1
    assert f"replay of #{row.id}" in page(scene, "/deliveries", admin)
    assert press(scene, "/deliveries/999999/replay", admin, csrf_of(html)).status_code == 404


def test_a_member_looks_and_replays_nothing(scene: Joined) -> None:
    name, _ = scene.api.member()
    member = scene.api.token(TokenKind.SESSION, name)
    row = scene.deliveries()[0]
    html = page(scene, "/deliveries", member)
    assert f"#{row.id}" in html and "/replay" not in html
    answer = press(scene, f"/deliveries/{row.id}/replay", member, csrf_of(html))
    assert answer.status_code == 403 and "Only an admin" in answer.text
    assert scene.api.call("GET", "/deliveries", token=None).status_code == 303, "to the sign-in"


def test_words_of_strangers_are_shown_as_they_are(scene: Joined) -> None:
    strange = Delivery(
        guid="strange", kind="github", event=WORD, sender=WORD, reason=WORD, state=DeliveryState.FAILED,
        received_at=scene.api.clock.now(),
    )  # fmt: skip
    scene.api.wiring.db.write(lambda s: s.add(strange))
    html = page(scene, "/deliveries?state=failed", scene.api.token(TokenKind.SESSION))
    assert html.count(ESCAPED) == 3 and "<script>alert" not in html


@pytest.mark.xdist_group("browser")
def test_phones_need_no_sideways_scrolling_and_no_policy_is_broken(scene: Joined, chromium: Browser) -> None:
    long = "w" * 300 + WORD
    strange = Delivery(
        guid="long", kind="github", event=long, sender=long, reason=long, state=DeliveryState.PROCESSED,
        received_at=scene.api.clock.now(),
    )  # fmt: skip
    scene.api.wiring.db.write(lambda s: s.add(strange))
    repo = scene.repo()
    assert repo is not None
    scene.api.wiring.db.write(lambda s: note_refused(s, repo.id or 0, COMMENT, long, long))
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    context.set_default_timeout(10_000)
    session = scene.api.token(TokenKind.SESSION)
    context.add_cookies([{"name": "dstack_session", "value": session, "url": scene.api.url}])
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    for path in ("/deliveries", "/github"):
        tab.goto(scene.api.url + path)
        assert tab.inner_text("h1") and long[:200] in tab.content()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()
    assert complaints == []


def test_deliveries_are_narrowed_and_paged(scene: Joined) -> None:
    admin = scene.api.token(TokenKind.SESSION)
    for number in range(60):
        row = Delivery(
            guid=f"old-{number}", kind="github", event="star.created", state=DeliveryState.IGNORED,
            received_at=scene.api.clock.now(),
        )  # fmt: skip
        scene.api.wiring.db.write(lambda s, row=row: s.add(row))
    first = page(scene, "/deliveries?state=ignored", admin)
    onward = re.search(r'href="(/deliveries\?[^"]*cursor=\d+)"', first)
    assert onward and first.count("star.created") >= 50
    second = page(scene, onward[1].replace("&amp;", "&"), admin)
    shown = re.compile(r'title="Handle #(\d+) again"')
    assert shown.findall(second) and not set(shown.findall(first)) & set(shown.findall(second))
    assert "star.created" not in page(scene, f"/deliveries?repo={REPO}", admin)
    assert "No deliveries match" in page(scene, "/deliveries?repo=no/where", admin)
    wrong = scene.api.call("GET", "/deliveries?state=lost", token=None, cookies={"dstack_session": admin})
    assert wrong.status_code == 400


def test_a_run_of_a_pull_request_and_what_github_refused(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "faster", {"b": "2"})
    number = scene.fake.open_pull(REPO, "faster", title=WORD)
    scene.settle()
    run = next(run for run in scene.runs(sha) if run.pull_request == number)
    repo = scene.repo()
    assert repo is not None and repo.id is not None
    for kind, target in ((COMMENT, str(number)), (STATUS, f"{sha}:dstack/check"), (NOTIFY, str(run.id))):
        scene.api.wiring.db.write(lambda s, k=kind, t=target: note_refused(s, repo.id, k, t, WORD))
    scene.api.wiring.db.write(lambda s: note_refused(s, repo.id, COMMENT, "999", "of another"))
    admin = scene.api.token(TokenKind.SESSION)
    html = page(scene, f"/runs/{run.name}", admin)
    assert f'href="{scene.fake.url}/{REPO}/pull/{number}"' in html
    assert f'href="{scene.fake.url}/{REPO}/commit/{sha}"' in html
    assert html.count(ESCAPED) == 4 and "<script>alert" not in html, "the title and three refusals"
    assert f"The comment on #{number}" in html and "dstack/check" in html and "of another" not in html
    assert run.name in page(scene, f"/?repo={REPO}&pr={number}", admin)
    assert run.name not in page(scene, f"/?repo={REPO}&pr={number + 1}", admin)

    asked = {"repo": REPO, "pull_request": str(number), "trigger": "pull_request"}
    found = scene.api.ok("GET", "/api/v1/runs", params=asked)["runs"]
    assert [row["name"] for row in found] == [run.name]
    assert scene.api.ok("GET", "/api/v1/runs", params={**asked, "trigger": "comment"})["runs"] == []
    for wrong in ({"trigger": "nonsense"}, {"pull_request": "x"}, {"pull_request": "0"}):
        assert scene.api.call("GET", "/api/v1/runs", params=wrong).status_code in (400, 422), wrong

    overview = page(scene, "/github", admin)
    assert (
        overview.count(ESCAPED) >= 3
        and "<script>alert" not in overview
        and "of another" in overview
        and f"/runs/{run.name}" in overview
    )
    assert f'href="{scene.fake.url}/{REPO}"' in overview and f'href="{scene.fake.url}/acme"' in overview


def test_a_fork_is_approved_by_the_button_within_a_budget(scene: Joined) -> None:
    scene.fake.fork(REPO, "mallory")
    name = "mallory/vision"
    sha = scene.fake.commit(name, "better", {"c": "3"}, "Better", "mallory", parent=scene.fake.head(REPO))
    scene.fake.open_pull(REPO, "better", author="mallory", head_repo=name)
    scene.settle()
    (run,) = scene.runs(sha)
    admin = scene.api.token(TokenKind.SESSION)
    html = page(scene, f"/runs/{run.name}", admin)
    assert "It waits for approval of" in html and f"dstack approve {run.name}" in html
    path, cookies = f"/runs/{run.name}/approve", {"dstack_session": admin}
    wrong = {"csrf": csrf_of(html), "budget": "lots"}
    assert scene.api.call("POST", path, token=None, cookies=cookies, data=wrong).status_code == 422
    assert scene.runs(sha)[0].is_held
    done = scene.api.call("POST", path, token=None, cookies=cookies, data={**wrong, "budget": "4gpu-h"})
    assert done.status_code == 303 and not scene.runs(sha)[0].is_held
    html = page(scene, f"/runs/{run.name}", admin)
    assert "admin, for 4gpu-h" in html and "It waits for approval" not in html
