"""Commit statuses as GitHub has them."""

from __future__ import annotations

from outbox_scene import Scene


def test_a_push_is_pending_then_a_success_with_what_came_out(scene: Scene) -> None:
    run = scene.run()
    scene.idle()
    assert scene.statuses() == {"dstack/train": ("pending", "queued")}
    scene.begin(run)
    scene.idle()
    assert scene.statuses()["dstack/train"] == ("pending", "runner-1, since 08:00 UTC")
    scene.clock.pass_time(192)
    scene.end(run)
    scene.idle()
    status = scene.github.statuses("acme/vision", scene.sha)["dstack/train"]
    assert (status.state, status.description) == ("success", "3m 13s · accuracy 0.934")
    assert status.target_url == f"http://dstack.example/runs/{run}"
    assert scene.marks(later=True) == []
