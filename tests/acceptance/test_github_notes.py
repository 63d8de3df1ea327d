"""Git notes on GitHub: pushed where the setting asks for it, and everything can be read from them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fake_github.permissions import PERMISSIONS
from github_site import FILE, REPO, OnGitHub, on_github, program
from machines import until

FILES = {
    FILE: """
workflows:
  - {name: train, provider: bash, on: push, metrics: metrics.json, commands: [python3 train.py]}
"""
}
NOTES = "refs/notes/dstack"
pytestmark = pytest.mark.xdist_group("github-gone")


def test_notes_stand_on_github_where_the_setting_asks_for_them(tmp_path: Path) -> None:
    writes = {**PERMISSIONS, "contents": "write"}
    with on_github(tmp_path, FILES, permissions=writes, DSTACK_GITHUB_NOTES="1") as scene:
        scene.site.runner()
        sha = scene.push(program(accuracy=0.93))
        (run,) = scene.ended(sha, 1)
        until(lambda: run["name"] in note(scene, sha), 20, f"the note is on GitHub\n{scene.site.said()}")
        assert "0.93" in note(scene, sha)
        mine = scene.fake.refs(REPO, NOTES)[NOTES]
        other = scene.push(program(accuracy=0.94))
        (second,) = scene.ended(other, 1)
        until(lambda: second["name"] in note(scene, other), 20, "the next note, too")
        assert run["name"] in note(scene, sha) and scene.fake.refs(REPO, NOTES)[NOTES] != mine
        scene.settle()
        scene.assert_sound()


def test_notes_stay_here_otherwise(tmp_path: Path) -> None:
    with on_github(tmp_path, FILES) as scene:
        scene.site.runner()
        scene.ended(scene.push(program(accuracy=0.93)), 1)
        scene.settle()
        assert scene.fake.refs(REPO, "refs/notes/") == {}


def note(scene: OnGitHub, sha: str) -> str:
    """A commit's note as GitHub has it, empty where there is none."""
    words = ["git", "notes", "--ref=dstack", "show", sha]
    done = subprocess.run(words, cwd=scene.fake.repo(REPO).path, capture_output=True, text=True, timeout=20)
    return done.stdout
