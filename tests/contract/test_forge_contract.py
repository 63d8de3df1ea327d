"""The suite of the port `gateways.forge.Forge`: every implementation passes it against a forge that keeps state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fake_github import FakeGitHub

from dstack.errors import ForgeBusy, ForgeDown, ForgeFailed, ForgeRefused, NotConnected
from dstack.server.gateways.forge import Forge
from dstack.server.gateways.forge_facts import AppCredentials, Permission, Place
from dstack.server.gateways.forge_writes import (
    Annotation,
    CheckButton,
    CheckWrite,
    IssueWrite,
    StatusState,
    StatusWrite,
)
from dstack.server.gateways.github import GitHub

FULL = "acme/vision"
MARKER = "<!-- dstack:pull -->"


@dataclass
class Scene:
    """A forge behind the port, a repository with one commit and one pull request, and where to look afterwards."""

    forge: Forge
    fake: FakeGitHub
    place: Place
    sha: str
    number: int
    credentials: AppCredentials


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with FakeGitHub(tmp_path / "forge") as fake:
        repo = fake.create_repo(FULL, files={"train.py": "print()"})
        app = fake.make_app("dstack bot")
        installation = fake.install(app, "acme")
        fake.commit(repo, "side", {"train.py": "print(1)"}, parent=fake.head(repo))
        number = fake.open_pull(repo, "side", title="Better", author="ada")
        github = GitHub(fake.api_url, fake.url, timeout_s=1.0)
        credentials = AppCredentials(app.id, app.pem, (app.webhook_secret,), app.slug)
        github.connect(credentials)
        place = Place(installation, "acme", "vision")
        yield Scene(github, fake, place, fake.head(repo), number, credentials)
        github.close()
        assert fake.violations == []


def status(scene: Scene, **more: object) -> StatusWrite:
    written = StatusWrite(scene.sha, "dstack/train", StatusState.PENDING, "queued", "http://here/runs/a")
    return replace(written, **more)  # type: ignore[arg-type]


def check(scene: Scene, **more: object) -> CheckWrite:
    written = CheckWrite(
        name="dstack / train", sha=scene.sha, external_id="run:brave-otter-17", url="http://here/runs/a",
        status="in_progress", title="runs", summary="since 14:02", started_at=1_800_000_000.0,
    )  # fmt: skip
    return replace(written, **more)  # type: ignore[arg-type]


# Who we are


def test_it_is_who_it_was_connected_as(scene: Scene) -> None:
    assert scene.forge.is_connected and scene.forge.slug == "dstack-bot"
    assert scene.forge.webhook_secrets == scene.credentials.webhook_secrets
    scene.forge.connect(None)
    assert not scene.forge.is_connected and scene.forge.slug == "" and scene.forge.webhook_secrets == ()
    for ask in (scene.forge.app, lambda: scene.forge.pull(scene.place, scene.number)):
        with pytest.raises(NotConnected):
            ask()
    scene.forge.connect(scene.credentials)
    assert scene.forge.pull(scene.place, scene.number).number == scene.number


def test_the_app_is_told_as_the_forge_knows_it(scene: Scene) -> None:
    facts = scene.forge.app()
    assert (facts.slug, facts.owner) == ("dstack-bot", "acme")
    assert facts.permissions["statuses"] == "write" and "pull_request" in facts.events
    assert abs(facts.clock_skew_s) < 2


def test_a_slug_that_was_not_given_is_asked_for(scene: Scene) -> None:
    scene.forge.connect(replace(scene.credentials, slug=""))
    deadline = time.monotonic() + 10
    while not scene.forge.slug:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert scene.forge.slug == "dstack-bot"


def test_a_manifest_becomes_an_app_once(scene: Scene) -> None:
    made = scene.fake.make_app("other", register=False)
    scene.fake.manifest_codes["code-1"] = (made, scene.fake.clock())
    scene.forge.connect(None)  # nobody is connected yet when this is done
    new = scene.forge.convert_manifest("code-1")
    assert (new.app_id, new.slug, new.private_key, new.webhook_secret) == (
        made.id, "other", made.pem, made.webhook_secret,
    )  # fmt: skip
    assert made.pem not in repr(new) and made.webhook_secret not in repr(new)
    with pytest.raises(ForgeRefused) as refused:
        scene.forge.convert_manifest("code-1")
    assert refused.value.answer == 404 and "code-1" not in str(refused.value)


def test_installations_and_their_repositories(scene: Scene) -> None:
    for number in range(105):
        scene.fake.create_repo(f"acme/more-{number}", private=number % 2 == 0)
    elsewhere = scene.fake.install(next(iter(scene.fake.apps.values())), "umbrella", repos=[])
    scene.fake.suspend(elsewhere)
    found = {one.id: one for one in scene.forge.installations()}
    assert found[scene.place.installation].account == "acme" and not found[scene.place.installation].suspended
    assert found[elsewhere].suspended
    repos = {repo.full_name: repo for repo in scene.forge.repos_of(scene.place.installation)}
    assert len(repos) == 106  # more than a page
    assert repos[FULL].is_private and not repos["acme/more-1"].is_private
    assert repos[FULL].default_branch == "main" and repos[FULL].forge_id.isdigit()
    assert scene.forge.find_repo("acme", "vision") == (repos[FULL], scene.place.installation)
    with pytest.raises(ForgeRefused) as refused:
        scene.forge.find_repo("acme", "nothing")
    assert refused.value.answer == 404


def test_the_hook_and_what_was_sent_to_it(scene: Scene) -> None:
    assert scene.forge.hook_address() == ""
    before = time.time()
    scene.fake.comment(FULL, scene.number, "ada", "first")
    comment = scene.fake.comment(FULL, scene.number, "ada", "/dstack run train")
    newest, older = [d for d in scene.forge.sent_deliveries(int(before) - 5) if d.event.startswith("issue_comment")]
    assert newest.event == "issue_comment.created" and not newest.arrived and newest.status_code == 0
    assert newest.id > older.id and newest.delivered_at >= int(before)
    event, payload = scene.forge.sent_payload(newest.id)
    assert event == "issue_comment" and str(comment).encode() in payload and b"/dstack run train" in payload
    assert list(scene.forge.sent_deliveries(time.time() + 60)) == []
    with pytest.raises(ForgeRefused):
        scene.forge.sent_payload(1)


def test_a_long_delivery_log_is_read_page_by_page_and_no_further(scene: Scene) -> None:
    for number in range(120):
        scene.fake.send_raw("ping", {"zen": str(number)})
    log = scene.forge.sent_deliveries(0)
    first = [next(log).id for _ in range(3)]
    asked = len(scene.fake.calls("/app/hook/deliveries"))
    rest = [delivery.id for delivery in log]
    assert first == sorted(first, reverse=True) and len(first) + len(rest) >= 120
    assert (asked, len(scene.fake.calls("/app/hook/deliveries"))) == (1, 2)


# Reading


def test_who_may_do_what(scene: Scene) -> None:
    for login, permission, role in (
        ("boss", "admin", None), ("mia", "write", "maintain"), ("wes", "write", None),
        ("tri", "read", "triage"), ("rea", "read", None), ("dependabot[bot]", "write", None),
    ):  # fmt: skip
        scene.fake.set_permission(FULL, login, permission, role)
    asked = {login: scene.forge.permission(scene.place, login) for login in (
        "boss", "mia", "wes", "tri", "rea", "dependabot[bot]", "stranger", "", "..", "a/b", "x?y", "%2e%2e",
    )}  # fmt: skip
    assert asked == {
        "boss": Permission.ADMIN, "mia": Permission.WRITE, "wes": Permission.WRITE, "tri": Permission.READ,
        "rea": Permission.READ, "dependabot[bot]": Permission.WRITE, "stranger": Permission.NONE,
        "": Permission.NONE, "..": Permission.NONE, "a/b": Permission.NONE, "x?y": Permission.NONE,
        "%2e%2e": Permission.NONE,
    }  # fmt: skip


def test_pull_requests(scene: Scene) -> None:
    fork = scene.fake.fork(FULL, "eve")
    theirs = scene.fake.push(fork, "patch", {"train.py": "print(2)"}, author="eve")
    number = scene.fake.open_pull(FULL, "patch", head_repo=fork, title="From outside", author="eve", draft=True)
    own = scene.forge.pull(scene.place, scene.number)
    assert (own.title, own.author, own.head_branch, own.base_branch) == ("Better", "ada", "side", "main")
    assert own.head_sha == scene.fake.head(FULL, "side") and own.base_sha == scene.sha
    assert own.is_open and not own.is_fork and not own.is_draft and own.head_repo == FULL
    assert abs(own.updated_at - time.time()) < 60
    outside = scene.forge.pull(scene.place, number)
    assert (outside.head_sha, outside.is_fork, outside.is_draft, outside.head_repo) == (
        theirs,
        True,
        True,
        "eve/vision",
    )
    assert {pull.number for pull in scene.forge.open_pulls(scene.place)} == {scene.number, number}
    scene.fake.delete_repo(fork)
    scene.fake.close_pull(FULL, scene.number)
    gone = scene.forge.pull(scene.place, number)
    assert gone.is_fork and gone.head_repo == ""
    assert not scene.forge.pull(scene.place, scene.number).is_open
    assert [pull.number for pull in scene.forge.open_pulls(scene.place)] == [number]
    with pytest.raises(ForgeRefused) as refused:
        scene.forge.pull(scene.place, 999)
    assert refused.value.answer == 404


def test_new_comments_oldest_first_without_those_only_edited(scene: Scene) -> None:
    now = time.time()
    old = scene.fake.comment(FULL, scene.number, "ada", "old", created_at=now - 500)
    first = scene.fake.comment(FULL, scene.number, "ada", "/dstack help", created_at=now - 50)
    second = scene.fake.comment(FULL, scene.number, "eve", "hello", created_at=now - 40)
    scene.fake.edit_comment(old, "edited")
    ours = int(scene.forge.create_comment(scene.place, scene.number, "an answer"))
    found = scene.forge.comments_since(scene.place, now - 60)
    assert [(one.id, one.author, one.is_bot) for one in found] == [
        (first, "ada", False), (second, "eve", False), (ours, "dstack-bot[bot]", True),
    ]  # fmt: skip
    assert found[0].body == "/dstack help" and found[0].number == scene.number
    assert abs(found[0].created_at - (now - 50)) <= 1


def test_addresses_come_with_tokens_for_one_repository(scene: Scene) -> None:
    address, token = scene.forge.clone_address(scene.place)
    assert address == f"{scene.fake.url}/acme/vision.git" and token not in address
    given = scene.fake.tokens[token]
    assert given.repo_ids == {scene.fake.repo(FULL).id}
    assert given.permissions == {"contents": "read", "metadata": "read"}
    assert scene.forge.clone_address(scene.place)[1] != token
    held = scene.forge.clone_address(scene.place, kept=True)
    assert scene.forge.clone_address(scene.place, kept=True) == held
    with pytest.raises(ForgeFailed):  # contents: read is all the App has
        scene.forge.push_address(scene.place)
    scene.fake.grant(scene.place.installation, {"contents": "write", "metadata": "read"})
    assert scene.fake.tokens[scene.forge.push_address(scene.place)[1]].permissions["contents"] == "write"


def test_the_newest_state_of_each_context(scene: Scene) -> None:
    assert scene.forge.statuses(scene.place, scene.sha) == {}
    for number in range(102):
        scene.forge.write_status(scene.place, status(scene, context=f"dstack/{number}"))
    scene.forge.write_status(scene.place, status(scene, context="dstack/7", state=StatusState.FAILURE))
    found = scene.forge.statuses(scene.place, scene.sha)
    assert len(found) == 102
    assert (found["dstack/7"], found["dstack/8"]) == (StatusState.FAILURE, StatusState.PENDING)


# Writing


@pytest.mark.parametrize("state", list(StatusState))
def test_a_status_arrives_as_it_was_given(scene: Scene, state: StatusState) -> None:
    scene.forge.write_status(scene.place, status(scene, state=state, text="é" * 140))
    written = scene.fake.statuses(FULL, scene.sha)["dstack/train"]
    assert (written.state, written.description, written.target_url) == (state, "é" * 140, "http://here/runs/a")


def test_a_check_from_queued_to_its_buttons(scene: Scene) -> None:
    made = scene.forge.create_check(scene.place, check(scene, status="queued", started_at=None))
    (written,) = scene.fake.checks(FULL, scene.sha)
    assert (written.name, written.status, written.external_id, str(written.id)) == (
        "dstack / train", "queued", "run:brave-otter-17", made,
    )  # fmt: skip
    done = check(
        scene, conclusion="success", summary="accuracy 0.93", text="```\nlog\n```", completed_at=1_800_000_060.0,
        buttons=(CheckButton("Tag latest", "Let others depend on it", "tag-latest"),),
    )  # fmt: skip
    scene.forge.update_check(scene.place, made, done, ())
    (written,) = scene.fake.checks(FULL, scene.sha)
    assert (written.status, written.conclusion, written.completed_at) == (
        "completed", "success", "2027-01-15T08:01:00Z",
    )  # fmt: skip
    assert written.output["summary"] == "accuracy 0.93" and written.output["text"] == "```\nlog\n```"
    assert written.actions[0]["identifier"] == "tag-latest"


def test_any_number_of_annotations(scene: Scene) -> None:
    def notes(start: int, count: int) -> tuple[Annotation, ...]:
        return tuple(Annotation("a.py", n, "failure", f"note {n}") for n in range(start, start + count))

    made = scene.forge.create_check(scene.place, check(scene, annotations=notes(1, 120)))
    scene.forge.update_check(scene.place, made, check(scene, annotations=notes(1, 180)), notes(121, 60))
    (written,) = scene.fake.checks(FULL, scene.sha)
    assert [one["message"] for one in written.annotations] == [f"note {n}" for n in range(1, 181)]


def test_a_check_is_found_by_our_id(scene: Scene) -> None:
    """Whatever it is named: that may have changed since."""
    found = scene.forge.find_check
    assert found(scene.place, scene.sha, "run:brave-otter-17") is None
    first = scene.forge.create_check(scene.place, check(scene))
    second = scene.forge.create_check(scene.place, check(scene, external_id="run:shy-cat-2"))
    assert found(scene.place, scene.sha, "run:brave-otter-17") == first
    assert found(scene.place, scene.sha, "run:shy-cat-2") == second
    scene.forge.update_check(scene.place, first, check(scene, name="dstack / train (push)"), ())
    assert found(scene.place, scene.sha, "run:brave-otter-17") == first
    assert found(scene.place, scene.sha, "run:other-1") is None


def test_a_comment_is_ours_and_found_by_its_marker(scene: Scene) -> None:
    scene.fake.comment(FULL, scene.number, "eve", f"{MARKER} not ours")
    for number in range(101):
        scene.fake.comment(FULL, scene.number, "ada", f"talk {number}")
    assert scene.forge.find_comment(scene.place, scene.number, MARKER) is None
    made = scene.forge.create_comment(scene.place, scene.number, f"{MARKER}\nfirst")
    assert scene.forge.find_comment(scene.place, scene.number, MARKER) == made
    scene.forge.update_comment(scene.place, made, f"{MARKER}\nsecond")
    assert scene.fake.comments(FULL, scene.number)[-1].body == f"{MARKER}\nsecond"
    scene.fake.delete_comment(int(made))
    with pytest.raises(ForgeRefused) as refused:
        scene.forge.update_comment(scene.place, made, "third")
    assert refused.value.answer == 404


def test_a_reaction_twice_is_one(scene: Scene) -> None:
    comment = scene.fake.comment(FULL, scene.number, "ada", "/train")
    for reaction in ("eyes", "eyes", "rocket", "confused", "-1"):
        scene.forge.react(scene.place, comment, reaction)
    assert sorted(scene.fake.reactions(comment)) == ["-1", "confused", "eyes", "rocket"]


def test_an_issue_is_opened_found_and_closed(scene: Scene) -> None:
    scene.fake.open_issue(FULL, "mine", body=MARKER, author="eve")
    assert scene.forge.find_issue(scene.place, MARKER) is None
    made = scene.forge.create_issue(scene.place, IssueWrite("dstack: train fails", f"{MARKER} why"))
    assert scene.forge.find_issue(scene.place, MARKER) == made
    scene.forge.update_issue(scene.place, made, IssueWrite("dstack: train fails", f"{MARKER} fine", is_open=False))
    (issue,) = [one for one in scene.fake.issues(FULL) if str(one.number) == made]
    assert (issue.state, issue.body) == ("closed", f"{MARKER} fine")
    assert scene.forge.find_issue(scene.place, MARKER) is None


def test_a_text_that_is_silently_not_taken_is_a_refusal(scene: Scene) -> None:
    made = scene.forge.create_issue(scene.place, IssueWrite("t", "short"))
    with pytest.raises(ForgeRefused) as refused:
        scene.forge.update_issue(scene.place, made, IssueWrite("t", "x" * 300_000))
    assert refused.value.answer == 422


# What goes wrong


REFUSED: list[tuple[str, Callable[[Scene], object], int]] = [
    ("too long a status", lambda s: s.forge.write_status(s.place, status(s, text="x" * 141)), 422),
    ("no such commit", lambda s: s.forge.write_status(s.place, status(s, sha="1" * 40)), 422),
    ("no such repository", lambda s: s.forge.pull(replace(s.place, name="nothing"), 1), 404),
    ("a name that climbs", lambda s: s.forge.pull(replace(s.place, owner="..", name=".."), 1), 404),
]


@pytest.mark.parametrize(("act", "answer"), [pytest.param(a, n, id=i) for i, a, n in REFUSED])
def test_what_is_refused_is_told_with_the_forge_s_words(
    scene: Scene, act: Callable[[Scene], object], answer: int
) -> None:
    with pytest.raises(ForgeRefused) as refused:
        act(scene)
    assert refused.value.answer == answer
    assert refused.value.message


def test_a_permission_that_lacks_is_a_refusal(scene: Scene) -> None:
    scene.fake.grant(scene.place.installation, {"metadata": "read", "pull_requests": "write"})
    with pytest.raises(ForgeRefused) as refused:
        scene.forge.write_status(scene.place, status(scene))
    assert refused.value.answer == 403 and "not accessible" in refused.value.message


def test_an_installation_that_is_suspended_or_gone_is_no_connection(scene: Scene) -> None:
    scene.forge.write_status(scene.place, status(scene))
    scene.fake.suspend(scene.place.installation)
    for _ in range(2):  # with the token that is held, and when a new one is asked for
        with pytest.raises(NotConnected):
            scene.forge.write_status(scene.place, status(scene))
        scene.fake.expire_tokens()
    scene.fake.unsuspend(scene.place.installation)
    scene.forge.write_status(scene.place, status(scene))
    scene.fake.uninstall(scene.place.installation)
    with pytest.raises(NotConnected):
        scene.forge.write_status(scene.place, status(scene))


def test_a_renamed_repository_is_followed(scene: Scene) -> None:
    scene.fake.rename_repo(FULL, "sight")
    scene.forge.write_status(scene.place, status(scene))
    assert scene.forge.pull(scene.place, scene.number).number == scene.number
    assert "dstack/train" in scene.fake.statuses("acme/sight", scene.sha)
    assert scene.forge.find_repo("acme", "vision")[0].full_name == "acme/sight"


def test_dead_tokens_are_renewed_and_the_write_is_done_once(scene: Scene) -> None:
    scene.forge.write_status(scene.place, status(scene))
    for act in (
        lambda: scene.forge.create_comment(scene.place, scene.number, "once"),
        lambda: scene.forge.pull(scene.place, scene.number),
        lambda: scene.forge.create_check(scene.place, check(scene)),
    ):
        scene.fake.expire_tokens()
        act()
    assert [one.body for one in scene.fake.comments(FULL, scene.number)] == ["once"]
    assert len(scene.fake.checks(FULL, scene.sha)) == 1


def test_tokens_are_asked_for_once_by_many_threads(scene: Scene) -> None:
    failures: list[BaseException] = []

    def act(number: int) -> None:
        try:
            scene.forge.write_status(scene.place, status(scene, context=f"dstack/{number}"))
        except ForgeFailed as error:
            failures.append(error)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(scene.fake.statuses(FULL, scene.sha)) == 16
    assert len(scene.fake.calls("access_tokens")) == 1


WRITES: list[tuple[str, Callable[[Scene], object]]] = [
    ("status", lambda s: s.forge.write_status(s.place, status(s))),
    ("check", lambda s: s.forge.create_check(s.place, check(s))),
    ("comment", lambda s: s.forge.create_comment(s.place, s.number, "hello")),
    ("issue", lambda s: s.forge.create_issue(s.place, IssueWrite("t", "b"))),
]
write = pytest.mark.parametrize("act", [pytest.param(act, id=name) for name, act in WRITES])
FAULTS: list[tuple[str, Callable[[FakeGitHub], None], int]] = [
    ("500", lambda f: f.faults.error(500, method="POST", path="/repos/"), 0),
    ("502", lambda f: f.faults.error(502, method="POST", path="/repos/"), 0),
    ("503", lambda f: f.faults.error(503, method="POST", path="/repos/"), 0),
    ("dropped", lambda f: f.faults.drop(method="POST", path="/repos/"), 0),
    ("answer lost", lambda f: f.faults.lose_answer(method="POST", path="/repos/"), 1),
]


@write
@pytest.mark.parametrize(("play", "done"), [pytest.param(p, n, id=i) for i, p, n in FAULTS])
def test_trouble_is_told_and_nothing_is_repeated_by_itself(
    scene: Scene, act: Callable[[Scene], object], play: Callable[[FakeGitHub], None], done: int
) -> None:
    play(scene.fake)
    with pytest.raises(ForgeDown):
        act(scene)
    assert len(scene.fake.writes()) == 1
    kept = [
        *scene.fake.statuses(FULL, scene.sha).values(), *scene.fake.checks(FULL),
        *scene.fake.comments(FULL, scene.number), *(i for i in scene.fake.issues(FULL) if i.pull is None),
    ]  # fmt: skip
    assert len(kept) == done
    act(scene)


def test_a_forge_that_hangs_is_given_up(scene: Scene) -> None:
    scene.forge.pull(scene.place, scene.number)
    scene.fake.faults.hang(3, "/statuses/")
    started = time.monotonic()
    with pytest.raises(ForgeDown):
        scene.forge.write_status(scene.place, status(scene))
    assert time.monotonic() - started < 2.5


def test_no_forge_at_all(scene: Scene) -> None:
    scene.forge.pull(scene.place, scene.number)
    with scene.fake.outage("reset"), pytest.raises(ForgeDown):
        scene.forge.pull(scene.place, scene.number)
    with scene.fake.outage(), pytest.raises(ForgeDown):
        scene.forge.app()
    assert scene.forge.pull(scene.place, scene.number)


LIMITS: list[tuple[str, Callable[[FakeGitHub], None], tuple[float, float]]] = [
    ("secondary", lambda f: f.faults.secondary_limit("/statuses/", retry_after=17), (17, 17)),
    ("secondary without a time", lambda f: f.faults.secondary_limit("/statuses/", retry_after=None), (60, 60)),
    ("hour used up", lambda f: f.faults.primary_limit("/statuses/", reset_in_s=300), (297, 301)),
    ("429", lambda f: f.faults.too_many("/statuses/", retry_after=5), (5, 5)),
    ("429 without a time", lambda f: f.faults.too_many("/statuses/", retry_after=None), (60, 60)),
]


@pytest.mark.parametrize(("play", "wait"), [pytest.param(p, w, id=i) for i, p, w in LIMITS])
def test_limits_say_how_long_to_wait(
    scene: Scene, play: Callable[[FakeGitHub], None], wait: tuple[float, float]
) -> None:
    play(scene.fake)
    with pytest.raises(ForgeBusy) as busy:
        scene.forge.write_status(scene.place, status(scene))
    assert wait[0] <= busy.value.retry_after <= wait[1]
    assert len(scene.fake.writes()) == 1


def test_a_token_that_cannot_be_had_is_told_as_any_call(scene: Scene) -> None:
    scene.fake.faults.error(502, "access_tokens")
    with pytest.raises(ForgeDown):
        scene.forge.write_status(scene.place, status(scene))
    scene.fake.faults.secondary_limit("access_tokens", retry_after=9)
    with pytest.raises(ForgeBusy) as busy:
        scene.forge.write_status(scene.place, status(scene))
    assert busy.value.retry_after == 9 and scene.fake.writes() == []


def test_no_error_tells_a_secret(scene: Scene) -> None:
    scene.forge.pull(scene.place, scene.number)
    told = []
    for play in (lambda f: f.faults.error(401, ""), lambda f: f.faults.error(500, ""), lambda f: f.faults.drop("")):
        play(scene.fake)
        try:
            scene.forge.write_status(scene.place, status(scene, sha="2" * 40))
        except ForgeFailed as error:
            told.append(f"{error.message} {error.hint} {error!r} {error.__cause__!r} {error.__context__!r}")
    secrets = [*scene.fake.tokens, scene.credentials.private_key.splitlines()[1], "Bearer"]
    assert told and not [secret for secret in secrets for text in told if secret in text]
