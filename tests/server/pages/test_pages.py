"""The pages over a real server: what they say, what they refuse, and that no words of others become markup."""

from __future__ import annotations

import io
import re
import socket
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
import requests
from page_data import DIGEST, a_page, a_run, worded, worded_artifact, worded_runners, worded_tags
from pages_fakes import CSRF

from dstack.server.web.render.models import AttemptData, Neighbour
from dstack.wire.api import JobView


class Page(HTMLParser):
    """The outline of a page: its elements with their attributes, its text, its links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.outline: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outline.append((tag, tuple(name for name, _ in attrs)))
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> list[str]:
        return [attrs["href"] for tag, attrs in self.attributes if tag == "a" and "href" in attrs]


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "{{7*7}}{% include '/etc/passwd' %}",
    "javascript:alert(1)",
    "</textarea></title><svg onload=alert(1)>",
    "`rm -rf`",
    "a\u202eb&lt;i&gt;",
    "../../x?y#z%2f",
]
PATHS = [
    "/",
    "/runs/hostile-run-1",
    "/runs/needed-run-2",
    "/tags",
    "/runners",
    "/artifacts/a1",
    "/runs/hostile-run-1/log?attempt=t2",
]


def fill(site, word: str, log: str) -> None:
    site.views.runs[:] = worded(word)
    site.views.tags[:] = worded_tags(word)
    site.views.runners[:] = worded_runners(word)
    site.views.artifacts["a1"] = worded_artifact(word)
    site.logs.append("t2", log.encode(), ended=True)


@pytest.mark.parametrize("word", HOSTILE)
def test_no_word_of_others_adds_an_element_or_an_attribute(site, word: str) -> None:
    fill(site, "friendly", "friendly\n")
    friendly = {path: Page(site.get(path).text) for path in PATHS}
    fill(site, word, "")
    for path, page in friendly.items():
        answer = site.get(path)
        hostile = Page(answer.text)
        assert answer.status_code == 200
        # Backticks in a sentence of ours are code; everything else must be the same, element by element.
        expected = [element for element in page.outline if element != ("code", ())]
        assert [element for element in hostile.outline if element != ("code", ())] == expected, path
        for link in hostile.links():
            is_ours = link.startswith(("/", "#", "?")) and not link.startswith("//")
            assert is_ours or link.startswith("https://github.com/ada/digits/"), link


@pytest.mark.parametrize("word", HOSTILE)
def test_words_of_others_are_shown_as_they_are(site, word: str) -> None:
    fill(site, word, word + "\n")
    shown = Page(site.get("/runs/hostile-run-1").text).text
    if "`" not in word:
        assert shown.count(word) >= 10


def test_a_report_of_a_job_is_rendered_without_its_tricks(site) -> None:
    report = "# Result\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![p](https://x.example/p.png)"
    site.views.runs[:] = [a_page(a_run(state="succeeded", finished_at="2026-03-01T11:52:00Z"), report=report)]
    page = Page(site.get("/runs/brave-otter-17").text)
    assert "<script>alert(1)</script>" in page.text
    assert ("script", ()) not in page.outline and ("img", ("src",)) not in page.outline
    assert [link for link in page.links() if link.startswith("http")] == ["https://x.example/p.png"]


def test_the_list_shows_state_commit_trigger_duration_and_metric_with_its_change(site) -> None:
    run = a_run(
        state="succeeded",
        finished_at="2026-03-01T11:54:05Z",
        metrics={"loss": 0.2, "accuracy": 0.95},
        headline="accuracy",
    )
    site.views.runs[:] = [a_page(run, subject="Train longer", previous={"accuracy": 0.9})]
    text = " ".join(Page(site.get("/").text).text.split())
    assert "Train longer ada/digits main 01234567 push 10 minutes ago" in text
    assert "Succeeded train brave-otter-17 accuracy 0.95 +0.05 3 m 05 s" in text


def test_runs_of_a_group_stand_together_in_the_order_they_need_each_other(site) -> None:
    names = ("evaluate-run-3", "train-run-2", "prepare-run-1")
    needs = {"evaluate-run-3": ["train-run-2"], "train-run-2": ["prepare-run-1"], "prepare-run-1": []}
    site.views.runs[:] = [a_page(a_run(name, needs=needs[name])) for name in names]
    site.views.runs.append(a_page(a_run("other-run-4", group="g2")))
    page = Page(site.get("/").text)
    assert [link for link in page.links() if link.startswith("/runs/")] == [
        "/runs/prepare-run-1", "/runs/train-run-2", "/runs/evaluate-run-3", "/runs/other-run-4",
    ]  # fmt: skip
    assert page.outline.count(("section", ("class", "aria-label"))) == 2


def test_filters_and_pages_are_links(site) -> None:
    site.views.page_size = 2
    site.views.runs[:] = [
        a_page(a_run(f"run-x-{number}", group=f"g{number}", branch="dev&x" if number % 2 else "main"))
        for number in range(6)
    ]
    first = Page(site.get("/?branch=dev%26x").text)
    older = next(link for link in first.links() if "cursor" in link)
    assert older == "/?branch=dev%26x&cursor=2"
    second = Page(site.get(older).text)
    assert [link for link in second.links() if link.startswith("/runs/")] == ["/runs/run-x-5"]
    assert "/?branch=dev%26x&state=failed" in second.links()
    nothing = site.get("/?branch=dev%26x&state=failed").text
    assert "No runs match" in nothing


@pytest.mark.parametrize("path", ["/", "/tags", "/runners"])
def test_empty_pages_teach(site, path: str) -> None:
    text = Page(site.get(path).text).text
    assert {
        "/": "git remote add dstack https://ci.example/git/local/my-project.git\ngit push dstack main",
        "/tags": "dstack tag RUN prepare:latest",
        "/runners": "export DSTACK_SERVER=https://ci.example DSTACK_TOKEN=...\ndstack-runner start",
    }[path] in text


@pytest.mark.parametrize(
    ("state", "reason", "says"),
    [
        (
            "queued",
            "needs 4 GPUs; the largest runner has 1: `--pgpu 0`",
            "Needs 4 GPUs; the largest runner has 1: --pgpu 0",
        ),
        ("failed", "no_such_tag", "A tag it depends on does not exist."),
        ("failed", "config", "dstack lint"),
        ("stopped", "canceled_by", "It was stopped by hand."),
    ],
)
def test_a_run_says_why_it_waits_or_failed(site, state: str, reason: str, says: str) -> None:
    site.views.runs[:] = [a_page(a_run(state=state, reason=reason, started_at=None))]
    assert says in Page(site.get("/runs/brave-otter-17").text).text


def test_a_failed_run_names_the_exit_code_and_shows_its_log(site) -> None:
    run = a_run(
        state="failed", reason="exit_code", jobs=[JobView("", "failed", "exit_code", 1, "box", 137, [], "j", "")]
    )
    site.views.runs[:] = [a_page(run, attempts=[AttemptData("t1", "", 1, "failed", "exit_code", "", "box", 137)])]
    site.logs.append("t1", b"loading\n\x1b[31mKilled\x1b[0m\n", ended=True)
    html = site.get("/runs/brave-otter-17").text
    assert "exit code 137 (SIGKILL)" in html
    assert 'id="L2"' in html and '<span class="f1">Killed</span>' in html
    assert "data-stream" not in html  # nothing more will come


def test_the_newest_live_attempt_is_shown_and_others_on_request(site) -> None:
    attempts = [
        AttemptData("t1", "a", 1, "lost"),
        AttemptData("t2", "a", 2, "running"),
        AttemptData("t3", "b", 1, "succeeded"),
    ]
    site.views.runs[:] = [a_page(a_run(), attempts=attempts)]
    for name in ("t1", "t2", "t3"):
        site.logs.append(name, f"log of {name}\n".encode(), ended=name != "t2")
    assert "log of t2" in site.get("/runs/brave-otter-17").text
    assert "log of t1" in site.get("/runs/brave-otter-17?attempt=t1").text
    assert site.get("/runs/brave-otter-17?attempt=other").status_code == 404


def test_the_script_asks_again_without_the_lines_of_the_log(site) -> None:
    site.views.runs[:] = [a_page(a_run(), attempts=[AttemptData("t1", "", 1, "running")])]
    site.logs.append("t1", b"one\n" * 2000)
    whole, again = site.get("/runs/brave-otter-17").text, site.get("/runs/brave-otter-17?live=1").text
    assert len(again) < 20_000 < len(whole)
    live = {attrs["id"] for _, attrs in Page(whole).attributes if "data-live" in attrs}
    assert live == {attrs["id"] for _, attrs in Page(again).attributes if "data-live" in attrs}
    assert 'data-lines="/runs/brave-otter-17/log?attempt=t1"' in again


def test_a_run_shows_charts_and_the_runs_it_needs(site) -> None:
    group = [
        Neighbour("needed-run-2", "prepare", "succeeded"),
        Neighbour("brave-otter-17", "train", "running", ["needed-run-2"]),
    ]
    site.views.runs[:] = [a_page(a_run(), series={"val/loss": [(1, 2.0), (2, 1.0)]}, group=group)]
    page = Page(site.get("/runs/brave-otter-17").text)
    assert any(
        tag == "svg" and attrs.get("aria-label", "").startswith("val/loss over") for tag, attrs in page.attributes
    )
    assert "/runs/needed-run-2" in page.links() and "needs prepare" in page.text


def test_stopping_and_restarting_take_a_form_of_this_session(site) -> None:
    site.views.runs[:] = [a_page(a_run())]
    assert f'name="csrf" value="{CSRF}"' in site.get("/runs/brave-otter-17").text
    done = site.post("/runs/brave-otter-17/stop", {"csrf": CSRF})
    assert (done.status_code, done.headers["location"]) == (303, "/runs/brave-otter-17")
    done = site.post("/runs/brave-otter-17/restart", {"csrf": CSRF}, headers={"origin": site.url})
    assert (done.status_code, done.headers["location"]) == (303, "/runs/next-run-2")
    assert site.actions.done == [("stop", "ada", "brave-otter-17", "False"), ("restart", "ada", "brave-otter-17")]


def test_a_held_run_has_a_button_for_its_approval(site) -> None:
    why = "waits for approval of 0123456: `/dstack approve 0123456` by someone with write access"
    held = a_page(a_run(state="waiting", reason=why, pull_request=7), is_held=True)
    site.views.runs[:] = [held]
    page = site.get("/runs/brave-otter-17").text
    assert "<code>/dstack approve 0123456</code>" in page and "It waits for approval of" in page
    done = site.post("/runs/brave-otter-17/approve", {"csrf": CSRF, "budget": " 4gpu-h "})
    assert (done.status_code, done.headers["location"]) == (303, "/runs/brave-otter-17")
    assert site.actions.done == [("approve", "ada", "brave-otter-17", "4gpu-h")]
    assert site.post("/runs/brave-otter-17/approve", {"csrf": "other"}).status_code == 403
    site.views.runs[:] = [replace(held, row=replace(held.row, is_held=False))]
    assert "/approve" not in site.get("/runs/brave-otter-17").text


def test_a_stopped_run_says_by_whom_or_why(site) -> None:
    for message, said in (("ada", "It was stopped by ada."), ("budget of 4gpu-h used up", "It was stopped: budget of")):
        job = JobView("train", "stopped", "canceled_by", 1, "r", None, message=message)
        site.views.runs[:] = [a_page(a_run(state="stopped", reason="canceled_by", jobs=[job]))]
        assert said in site.get("/runs/brave-otter-17").text


def test_a_whole_group_can_be_stopped(site) -> None:
    alone = a_page(a_run())
    site.views.runs[:] = [alone]
    assert "Stop group" not in site.get("/runs/brave-otter-17").text
    group = [Neighbour("brave-otter-17", "train", "running"), Neighbour("other-run-2", "evaluate", "waiting")]
    site.views.runs[:] = [replace(alone, group=group)]
    assert 'name="group" value="1"' in site.get("/runs/brave-otter-17").text
    assert site.post("/runs/brave-otter-17/stop", {"csrf": CSRF, "group": "1"}).status_code == 303
    assert site.actions.done == [("stop", "ada", "brave-otter-17", "True")]


@pytest.mark.parametrize(
    ("form", "headers", "status"),
    [
        ({"other": "x"}, {}, 403),
        ({"csrf": "wrong"}, {}, 403),
        ({"csrf": CSRF}, {"origin": "https://evil.example"}, 403),
        ({"csrf": CSRF}, {"origin": "null"}, 403),
        ({"csrf": CSRF}, {"origin": "http://[bad"}, 403),
        ({"csrf": CSRF}, {"origin": "https://ci.example.evil"}, 403),
        ({"csrf": CSRF}, {"sec-fetch-site": "cross-site"}, 403),
        ({"csrf": CSRF}, {"content-type": "text/plain"}, 400),
        ({"csrf": "x" * 70_000}, {}, 413),
    ],
)
def test_a_forged_form_does_nothing(site, form: dict[str, str], headers: dict[str, str], status: int) -> None:
    answer = site.post("/runs/brave-otter-17/stop", form, headers=headers)
    assert answer.status_code == status
    assert site.actions.done == []
    assert "<h1>" in answer.text


def test_a_form_sent_through_a_proxy_comes_from_the_public_address(site) -> None:
    site.views.runs[:] = [a_page(a_run())]
    headers = {"origin": "https://ci.example", "host": "internal:3000"}
    assert site.post("/runs/brave-otter-17/stop", {"csrf": CSRF}, headers=headers).status_code == 303


def test_an_anonymous_form_does_nothing(site) -> None:
    answer = requests.post(site.url + "/runs/x/stop", data={"csrf": CSRF}, timeout=10, allow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert site.actions.done == []


def test_a_conflict_is_a_page_that_says_so(site) -> None:
    answer = site.post("/runs/final-run-1/stop", {"csrf": CSRF})
    assert answer.status_code == 409 and "final-run-1 has ended already." in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/nope", "/x;.css", "//admin", "/%2fadmin",
        "/run", "/runs/", "/runs/nope", "/runs/..%2f..", "/tags/", "/runs/a/b",
        "/artifacts/nope", "/artifacts/a1/files/nope", "/static/../pages/run.html", "/static/%2e%2e/pages/run.html",
        "/runs/" + "x" * 5000, "/runs/%00", "/runs/%ff", "/badge/x.svg",
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_page_in_the_same_look(site, path: str) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as raw:  # a client library would tidy the path up first
        headers = "Host: evil.example\r\nCookie: dstack_session=session-of-ada\r\nConnection: close"
        raw.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert b" 404 " in head and b"location:" not in head and b"evil.example" not in answer
    assert b"dstack.css" in answer or path.startswith("/static")


@pytest.mark.parametrize(
    "path",
    [
        "/?state=burning", "/?cursor=-1", "/?cursor=abc",
        "/runs/brave-otter-17/log?attempt=t1&line=-1", "/runs/brave-otter-17/log?attempt=t1&line=abc",
        "/runs/brave-otter-17/log?attempt=t1&before=1e9", "/runs/brave-otter-17/log?attempt=t1&before=" + "9" * 31,
        "/runs/brave-otter-17/log?attempt=t1&line=%D9%A3",
    ],
)  # fmt: skip
def test_senseless_numbers_are_refused(site, path: str) -> None:
    site.views.runs[:] = [a_page(a_run(), attempts=[AttemptData("t1", "", 1, "running")])]
    assert site.get(path).status_code == 400


def test_a_run_of_others_reads_the_same_as_none(site) -> None:
    site.views.runs[:] = [a_page(a_run("secret-run-1"), attempts=[AttemptData("t1", "", 1, "running")])]
    site.views.hidden.add("secret-run-1")
    for path in ("", "/log?attempt=t1", "/log/stream?attempt=t1", "/log/raw?attempt=t1"):
        secret, absent = site.get(f"/runs/secret-run-1{path}"), site.get(f"/runs/absent-run-1{path}")
        assert secret.status_code == absent.status_code == 404
        assert secret.text == absent.text


def test_an_error_inside_shows_no_inside(site, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    site.views.list_runs = broken
    answer = site.get("/")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text and "hunter2" not in answer.text
    assert "hunter2" in caplog.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    request_id = re.search(r"Request <code>(\w+)</code>", answer.text)
    assert request_id and request_id[1] in {getattr(record, "request_id", "") for record in caplog.records}


def test_every_answer_carries_the_headers(site) -> None:
    for path in ("/", "/sign-in", "/nope", "/static/dstack.css", "/badge/a/b.svg"):
        headers = site.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert policy == "default-src 'none'" if "badge" in path else "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    assert site.get("/").headers["cache-control"] == "no-store"


def test_no_page_needs_inline_script_or_style(site) -> None:
    fill(site, "friendly", "friendly\n")
    for path in [*PATHS, "/sign-in", "/nope"]:
        page = Page(site.get(path).text)
        for tag, attrs in page.attributes:
            assert "style" not in attrs and not any(name.startswith("on") for name in attrs)
            assert tag != "script" or attrs["src"].startswith("/static/dstack.js?v=")
            assert tag != "style"
        ids = [attrs["id"] for _, attrs in page.attributes if "id" in attrs]
        assert len(ids) == len(set(ids)), path


def test_files_of_an_artifact_are_handed_out_as_attachments(site) -> None:
    site.views.artifacts["a1"] = worded_artifact("page.html")
    site.views.files["a1", "sub/<i>#?.html"] = b"<script>alert(1)</script>"
    answer = site.get("/artifacts/a1/files/" + quote("sub/<i>#?.html"))
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "25"
    assert DIGEST[:12] in site.get("/artifacts/a1").text


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/badge/ada/digits.svg?workflow=train&branch=main", "train: running"),
        ("/badge/ada/digits.svg", "dstack: running"),
        ("/badge/ada/digits.svg?branch=none", "dstack: unknown"),
        ("/badge/no/such.svg?workflow=%3Cscript%3E", "&lt;script&gt;: unknown"),
    ],
)
def test_badges_need_no_sign_in_and_are_never_absent(site, path: str, says: str) -> None:
    site.views.runs[:] = [a_page(a_run())]
    answer = site.anonymous(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["cache-control"] == "no-cache"
    assert f"<title>{says}</title>" in answer.text


def test_a_whole_artifact_is_one_download(site) -> None:
    data = worded_artifact("dir/page.html")
    site.views.artifacts["a1"] = data
    site.views.files["a1", "dir/page.html"] = b"x" * 12
    answer = site.get("/artifacts/a1/tar")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames() == ["dir/page.html", "link"]
    assert 'filename="hostile-run-1-dir-page.html.tar"' in answer.headers["content-disposition"]
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert site.get("/artifacts/none/tar").status_code == 404
    assert site.anonymous("/artifacts/a1/tar").status_code == 303
