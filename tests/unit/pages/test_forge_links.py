"""Addresses on the forge, and what it refused in words."""

from __future__ import annotations

import pytest

from dstack.server.web.render.forge_links import ForgeLinks, refusal

SHA = "0123456789abcdef0123456789abcdef01234567"


def test_a_mirror_has_pages_on_its_forge() -> None:
    links = ForgeLinks.of("https://github.example", "acme/vision", is_mirror=True)
    assert links.commit(SHA) == f"https://github.example/acme/vision/commit/{SHA}"
    assert links.pull(7) == "https://github.example/acme/vision/pull/7"
    assert links.pull(None) == ""


def test_a_repo_of_this_server_has_none() -> None:
    links = ForgeLinks.of("https://github.example", "acme/vision", is_mirror=False)
    assert (links.repo_url, links.commit(SHA), links.pull(7)) == ("", "", "")


def test_a_name_cannot_leave_its_place() -> None:
    links = ForgeLinks.of("https://github.example", 'a/b?x#"><script>', is_mirror=True)
    assert links.pull(1) == "https://github.example/a/b%3Fx%23%22%3E%3Cscript%3E/pull/1"


@pytest.mark.parametrize(
    ("kind", "target", "what", "is_notice"),
    [
        ("status", f"{SHA}:dstack/train", "The commit status dstack/train", False),
        ("status", SHA, "The commit status of its commit", False),
        ("check", "12", "The check", False),
        ("comment", "7", "The comment on #7", False),
        ("issue", "train", "The issue about train", False),
        ("notify", "12", "The notification", True),
        ("forge-notes", "", "forge notes", False),
        ("status", f"{SHA}:{{0.__class__}}", "The commit status {0.__class__}", False),
    ],
)
def test_what_was_refused_in_words(kind: str, target: str, what: str, is_notice: bool) -> None:
    told = refusal(kind, target, "no")
    assert (told.what, told.why, told.is_notice) == (what, "no", is_notice)
