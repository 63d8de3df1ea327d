"""The fake GitHub's pages: an App is registered from a manifest, a person looks at a pull request."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from fake_github import FakeGitHub
from fake_github_scene import REPO, Receiver, Scene

CHECKS = f"/repos/{REPO}/check-runs"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    receiver = Receiver()
    with FakeGitHub(tmp_path / "github") as github:
        github.check_answers = True
        yield Scene(github, receiver)
        github.flush()
    receiver.close()


# Registering an App


def fields(text: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', text)}


def manifest(**more: Any) -> str:
    return json.dumps({
        "name": "trainer", "url": "https://example.org", "hook_attributes": {"url": "http://127.0.0.1:1/hooks"},
        "redirect_url": "http://127.0.0.1:2/back", "default_permissions": {"contents": "read", "metadata": "read"},
        "default_events": ["push"], **more,
    })  # fmt: skip


def test_an_app_is_registered_from_a_manifest_and_handed_over_once(scene: Scene) -> None:
    web = scene.github.url
    shown = requests.post(
        f"{web}/organizations/acme/settings/apps/new?state=s1", data={"manifest": manifest()}, timeout=20
    )
    assert "Create GitHub App" in shown.text
    action = re.search(r'<form method="post" action="([^"]+)"', shown.text)
    assert action is not None
    pressed = requests.post(web + action[1], data=fields(shown.text), allow_redirects=False, timeout=20)
    back = urlsplit(pressed.headers["location"])
    query = parse_qs(back.query)
    assert back.netloc == "127.0.0.1:2" and query["state"] == ["s1"]
    conversion = f"{scene.github.api_url}/app-manifests/{query['code'][0]}/conversions"
    made = requests.post(conversion, timeout=20)
    assert made.status_code == 201 and {"id", "slug", "pem", "webhook_secret", "client_secret"} <= set(made.json())
    assert requests.post(conversion, timeout=20).status_code == 404
    app = scene.github.apps[made.json()["id"]]
    headers = {"Authorization": f"Bearer {scene.jwt(app)}"}
    assert requests.get(f"{scene.github.api_url}/app", headers=headers, timeout=20).json()["slug"] == "trainer"
    assert "Install" in requests.get(f"{web}/apps/trainer/installations/new", timeout=20).text
    requests.post(f"{web}/apps/trainer/installations/new", data={"account": "acme"}, timeout=20)
    found = requests.get(f"{scene.github.api_url}/app/installations", headers=headers, timeout=20).json()
    assert [i["repository_selection"] for i in found] == ["all"]
    assert not scene.github.violations


@pytest.mark.parametrize(
    "more, complaint",
    [
        ({"url": ""}, "&quot;url&quot; wasn&#x27;t supplied."),
        ({"hook_attributes": {"active": False}}, "&quot;url&quot; wasn&#x27;t supplied."),
        ({"default_events": ["push", "installation"]}, "Default events unsupported: installation"),
        ({"default_events": ["merge_group"]}, "Default events are not supported by permissions: merge_group"),
        ({"default_permissions": {"contents": "admin"}}, "contents"),
        ({"name": "x" * 35}, "Name is too long"),
        ({"defualt_events": []}, "is no key"),
    ],
)
def test_a_manifest_github_would_refuse(scene: Scene, more: dict[str, Any], complaint: str) -> None:
    shown = requests.post(f"{scene.github.url}/settings/apps/new", data={"manifest": manifest(**more)}, timeout=20)
    assert shown.status_code == 422 and complaint in shown.text


# Pages


def test_a_person_can_look_at_a_pull_request(scene: Scene) -> None:
    scene.github.push(REPO, "f", {"a": "1"})
    number = scene.github.open_pull(REPO, "f", title="Faster <training>")
    sha = scene.github.head(REPO, "f")
    body = "| a | b |\n|---|---|\n| 1 | 2 |\n\n```mermaid\nxychart-beta\n```\n"
    scene.call("POST", f"/repos/{REPO}/issues/{number}/comments", json={"body": body})
    scene.call("POST", f"/repos/{REPO}/statuses/{sha}", json={"state": "success", "context": "dstack/train"})
    made = scene.call(
        "POST",
        CHECKS,
        json={"name": "c", "head_sha": sha, "conclusion": "success", "output": {"title": "t", "summary": "s"}},
    )
    shown = requests.get(f"{scene.github.url}/{REPO}/pull/{number}", timeout=20).text
    assert "<table>" in shown and "xychart-beta" in shown and "dstack/train" in shown
    assert "Faster &lt;training&gt;" in shown
    assert requests.get(f"{scene.github.url}/{REPO}/runs/{made.json()['id']}", timeout=20).status_code == 200
    assert requests.get(f"{scene.github.url}/", timeout=20).status_code == 200
    assert requests.get(f"{scene.github.url}/{REPO}/pull/99", timeout=20).status_code == 404
