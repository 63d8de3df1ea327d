"""What the pages show of pull requests, gates, equal runs and refusals, and how the list is narrowed by them."""

from __future__ import annotations

import pytest
from page_data import SHA, a_page, a_run
from test_pages import Page

from dstack.server.web.render.models import AttemptData, Refusal

ENDED = {"state": "succeeded", "finished_at": "2026-03-01T11:52:00Z"}
PULL = "https://github.com/ada/digits/pull/7"


def words(html: str) -> str:
    return " ".join(Page(html).text.split())


def test_a_run_of_a_pull_request_leads_to_it_and_to_its_commit(site) -> None:
    commit = f"https://github.com/ada/digits/commit/{SHA}"
    run = a_run(pull_request=7, trigger="pull_request", branch="faster")
    site.views.runs[:] = [a_page(run, pull_title="Train faster", subject="Speed", pull_url=PULL, commit_url=commit)]
    page = Page(site.get("/runs/brave-otter-17").text)
    assert {PULL, commit} <= set(page.links())
    assert "#7 Train faster" in " ".join(page.text.split())
    assert "/?repo=ada%2Fdigits&pr=7" in Page(site.get("/").text).links()


def test_a_run_of_this_server_alone_leads_nowhere_else(site) -> None:
    site.views.runs[:] = [a_page(a_run())]
    assert not [link for link in Page(site.get("/runs/brave-otter-17").text).links() if link.startswith("http")]


@pytest.mark.parametrize(
    ("verdict", "why", "told"),
    [
        ("failed", "accuracy 0.6 < base 0.9 - 0.01", "Gate failed: accuracy 0.6 < base 0.9 - 0.01The gate is"),
        ("pending", "its base, calm-fox-1, is running", "Gate pending: its base, calm-fox-1, is runningThe gate is"),
        ("passed", "accuracy 0.95 >= base 0.9 - 0.01", "Gate passed: accuracy 0.95 >= base 0.9 - 0.01, against calm"),
        ("within_noise", "", "Within noise."),
        ("no_base", "", "First result."),
    ],
)
def test_a_gate_says_why_it_was_judged_so(site, verdict: str, why: str, told: str) -> None:
    run = a_run(**ENDED, verdict=verdict, verdict_why=why, gate="accuracy >= base - 0.01", base_run="calm-fox-1")
    site.views.runs[:] = [a_page(run)]
    html = site.get("/runs/brave-otter-17").text
    assert told in words(html)
    assert ('class="callout bad"' in html) == (verdict == "failed")


def test_metrics_stand_against_the_base(site) -> None:
    run = a_run(**ENDED, metrics={"accuracy": 0.95}, headline="accuracy", base_run="calm-fox-1")
    site.views.runs[:] = [a_page(run, previous={"accuracy": 0.9}, previous_run="other-run-2")]
    text = words(site.get("/runs/brave-otter-17").text)
    assert "accuracy0.95 +0.05" in text and "Against its base, calm-fox-1." in text and "other-run-2" not in text


def test_a_run_that_took_over_a_result_leads_to_the_one_that_has_the_log(site) -> None:
    site.views.runs[:] = [a_page(a_run(**ENDED, same_as="calm-fox-1"))]
    page = Page(site.get("/runs/brave-otter-17").text)
    assert "The same work as calm-fox-1" in " ".join(page.text.split())
    assert "/runs/calm-fox-1#log" in page.links()
    assert "same as calm-fox-1" in words(site.get("/").text)


def test_what_was_refused_is_shown_with_the_reason(site) -> None:
    refused = [Refusal("The comment on #7", "the App may not write comments")]
    site.views.runs[:] = [a_page(a_run(**ENDED), refused=refused)]
    text = words(site.get("/runs/brave-otter-17").text)
    assert "GitHub does not show all of this. The comment on #7: the App may not write comments" in text
    assert "dstack github doctor" in text
    site.views.runs[:] = [a_page(a_run(**ENDED), refused=[Refusal("The notification", "it answered 404", True)])]
    text = words(site.get("/runs/brave-otter-17").text)
    assert "Its end could not be told. The notification: it answered 404" in text and "doctor" not in text


def test_a_scheduled_run_says_when_it_was_due(site) -> None:
    run = a_run(trigger="schedule")
    site.views.runs[:] = [a_page(run, scheduled_at="2026-03-01T03:00:00Z")]
    assert "schedule, due 2026-03-01 03:00:00 UTC" in words(site.get("/runs/brave-otter-17").text)


def test_a_held_run_asks_for_its_approval_and_another_does_not(site) -> None:
    site.views.runs[:] = [a_page(a_run(state="waiting", pull_request=7), is_held=True, pull_url=PULL)]
    page = Page(site.get("/runs/brave-otter-17").text)
    assert PULL in page.links() and "/dstack approve 0123456" in page.text
    assert "dstack approve brave-otter-17" in page.text
    fields = [attrs.get("name") for tag, attrs in page.attributes if tag == "input"]
    assert "budget" in fields
    site.views.runs[:] = [a_page(a_run(state="waiting"))]
    assert "approve" not in site.get("/runs/brave-otter-17").text


def test_the_list_is_narrowed_by_pull_request_and_trigger(site) -> None:
    attempt = [AttemptData("t1", "", 1, "running")]
    site.views.runs[:] = [
        a_page(a_run("seven-run-1", pull_request=7, trigger="pull_request"), attempts=attempt),
        a_page(a_run("typed-run-2", pull_request=7, trigger="comment")),
        a_page(a_run("eight-run-3", pull_request=8, trigger="pull_request")),
        a_page(a_run("night-run-4", trigger="schedule")),
    ]

    def names(query: str) -> list[str]:
        return [link for link in Page(site.get(f"/?{query}").text).links() if link.startswith("/runs/")]

    assert sorted(names("pr=7")) == ["/runs/seven-run-1", "/runs/typed-run-2"]
    assert names("pr=7&trigger=comment") == ["/runs/typed-run-2"]
    assert names("trigger=schedule") == ["/runs/night-run-4"]
    page = Page(site.get("/?pr=7&trigger=comment&state=running").text)
    assert "/?state=running&trigger=comment" in page.links(), "a pull request is let go without the rest"
    assert "/?state=failed&trigger=comment&pr=7" in page.links()


def test_reports_link_to_the_runs_of_a_repo_or_a_commit(site) -> None:
    site.views.runs[:] = [a_page(a_run("this-run-1")), a_page(a_run("that-run-2", sha="f" * 40, repo="ada/letters"))]
    for query, name in ((f"sha={SHA}", "this-run-1"), ("repo=ada/letters", "that-run-2")):
        page = Page(site.get(f"/runs?{query}").text)
        assert [link for link in page.links() if link.startswith("/runs/")] == [f"/runs/{name}"]


@pytest.mark.parametrize("query", ["pr=x", "pr=-1", "pr=7%20or%201", "trigger=nonsense", "pr=" + "9" * 30])
def test_a_filter_that_can_match_nothing_is_said_so(site, query: str) -> None:
    assert site.get(f"/?{query}").status_code == 400
