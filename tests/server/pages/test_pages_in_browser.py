"""The script in a real browser: live states, live logs, links to lines, the theme; no policy is broken on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from page_data import a_page, a_run
from pages_fakes import COOKIE
from playwright.sync_api import Browser, Page

from dstack.server.web.render.models import AttemptData, Refusal

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def page(site, chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1100, "height": 800}, color_scheme="light")
    context.set_default_timeout(10_000)
    context.add_cookies([{"name": COOKIE, "value": "session-of-ada", "url": site.url}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_a_run_comes_to_life_and_ends_without_a_reload_by_hand(site, page: Page) -> None:
    queued = a_page(a_run(state="queued", reason="needs 1 GPU", started_at=None))
    site.views.runs[:] = [queued]
    page.clock.install()
    page.goto(f"{site.url}/runs/brave-otter-17")
    assert "Needs 1 GPU" in page.inner_text("#head")
    attempt = AttemptData("t1", "", 1, "running", runner="box")
    site.logs.append("t1", b"hello\n 10%")
    site.views.runs[:] = [a_page(a_run(), attempts=[attempt])]
    page.clock.fast_forward(3000)
    page.wait_for_selector("#L1")
    assert "Running" in page.inner_text("#head") and page.inner_text("#open-line").strip() == "10%"
    site.logs.append("t1", b"\r100%\n\x1b[32mdone\x1b[0m\n")
    page.wait_for_selector("#L3 .f2")
    assert page.inner_text("#L2").strip() == "100%"
    ended = a_run(state="succeeded", finished_at="2026-03-01T11:59:00Z", metrics={"accuracy": 0.9})
    site.views.runs[:] = [a_page(ended, attempts=[replace(attempt, state="succeeded")])]
    site.logs.append("t1", b"bye", ended=True)
    page.wait_for_selector("#L4")
    page.wait_for_selector("#side >> text=accuracy")
    assert "Succeeded" in page.inner_text("#head")
    assert page.locator("#open-line").is_hidden()
    assert page.locator(".ll[id^=L]").count() == 4


def test_the_log_follows_until_one_looks_back(site, page: Page) -> None:
    site.views.runs[:] = [a_page(a_run(), attempts=[AttemptData("t1", "", 1, "running")])]
    site.logs.append("t1", b"".join(b"line %d\n" % number for number in range(1, 4001)))
    page.goto(f"{site.url}/runs/brave-otter-17")
    from_end = (
        "(() => { const l = document.getElementById('log'); return l.scrollHeight - l.scrollTop - l.clientHeight })()"
    )
    page.wait_for_function(f"{from_end} < 5")
    site.logs.append("t1", b"one more\n")
    page.wait_for_selector("#L4001")
    page.wait_for_function(f"{from_end} < 5")
    page.evaluate("document.getElementById('log').scrollTop = 0")
    page.wait_for_selector("#follow[aria-pressed=false]")
    site.logs.append("t1", b"and more\n")
    page.wait_for_selector("#L4002", state="attached")
    assert page.evaluate("document.getElementById('log').scrollTop") == 0
    page.click("#earlier")
    page.wait_for_selector("#L1", state="attached")
    in_order = "[...document.querySelectorAll('.ll[id^=L]')].every((line, at) => line.id === 'L' + (at + 1))"
    assert page.evaluate(in_order)


def test_a_link_to_a_line_finds_it(site, page: Page) -> None:
    site.views.runs[:] = [a_page(a_run(), attempts=[AttemptData("t1", "", 1, "running")])]
    site.logs.append("t1", b"line\n" * 5000)
    page.goto(f"{site.url}/runs/brave-otter-17#L4900")
    page.wait_for_selector("#L4900.marked")
    page.goto(f"{site.url}/tags")
    page.goto(f"{site.url}/runs/brave-otter-17#L7")
    page.wait_for_selector("#L7.marked")
    assert "/log?attempt=t1&line=7#L7" in page.url


def test_the_theme_is_kept(site, page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.goto(f"{site.url}/tags")
    light = page.evaluate(ground)
    page.click("#theme")
    dark = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == dark


def test_hostile_output_runs_nothing_and_phones_need_no_sideways_scrolling(site, page: Page) -> None:
    word = "\"><img src=x onerror=document.title='owned'><script>document.title='owned'</script>" + "w" * 300
    run = a_run(repo=word, workflow=word, branch=word, variables={word: word}, metrics={word: 1.0}, tags=[word])
    attempt = AttemptData("t1", word, 1, "running", runner=word, step=word)
    other = AttemptData("t0", word, 1, "lost", "runner_lost", word)
    run = replace(run, verdict="failed", verdict_why=word, gate=word, base_run=word, same_as=word, pull_request=7)
    shown = {"subject": word, "author": word, "report": word, "pull_title": word, "refused": [Refusal(word, word)]}
    site.views.runs[:] = [
        a_page(run, **shown, attempts=[other, attempt], series={word: [(1, 1.0)]}, is_held=True, pull_url=site.url)
    ]
    site.logs.append("t1", word.encode() + b"\n")
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", "/runs/brave-otter-17"):
        page.goto(site.url + path)
        if "runs" in path:
            site.logs.append("t1", word.encode() + b"\n" + word.encode())
            page.wait_for_selector("#L2")
        assert page.title() != "owned"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:  # nothing may happen late either
        assert page.title() != "owned"
