"""Git notes on GitHub, where the setting asks for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fake_github.permissions import PERMISSIONS
from outbox_scene import REPO, Scene, play
from server_clock import FakeClock

from dstack.server.services.mirror_commit import mirror_commit
from dstack.server.services.push_notes import send
from dstack.server.services.write_notes import write_notes
from dstack.server.store.outbox import FORGE_NOTES
from dstack.server.store.reports import parked
from dstack.server.store.repos import repo_by_id


def a_noted_run(scene: Scene) -> None:
    scene.use({FORGE_NOTES: send})
    mirror_commit(scene.wiring, scene.wiring.db.read(lambda s: repo_by_id(s, 1)), scene.sha)
    run = scene.run()
    scene.begin(run)
    scene.end(run)
    write_notes(scene.wiring)


def note_on_github(scene: Scene) -> str:
    path = scene.github.repo(REPO).path
    done = subprocess.run(
        ["git", "notes", "--ref=dstack", "show", scene.sha], cwd=path, capture_output=True, text=True, timeout=30
    )
    return done.stdout


def test_notes_are_pushed(tmp_path: Path) -> None:
    allowed = {**PERMISSIONS, "contents": "write"}
    with play(tmp_path, FakeClock(), permissions=allowed, github_notes=True) as scene:
        a_noted_run(scene)
        assert scene.marks() == [(FORGE_NOTES, "1:")]
        scene.idle()
        assert "accuracy" in note_on_github(scene) and scene.marks(later=True) == []


@pytest.mark.parametrize("setting", [False, True])
def test_an_app_that_may_only_read_pushes_nothing(tmp_path: Path, setting: bool) -> None:
    with play(tmp_path, FakeClock(), github_notes=setting) as scene:
        a_noted_run(scene)
        scene.idle()
        assert note_on_github(scene) == "" and scene.marks(later=True) == []
        assert len(scene.wiring.db.read(parked)) == setting
