"""Pushes at the forge: fetched, then the same road as a push to our own remote."""

from __future__ import annotations

from joined_github import REPO, Joined

from dstack.server.models.delivery import DeliveryState


def test_a_push_starts_runs_of_its_commit(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "main", {"a.txt": "1"})
    scene.settle()
    (run,) = scene.runs()
    assert (run.workflow, run.sha, run.branch, run.trigger, run.is_clean) == ("train", sha, "main", "push", True)
    delivery = scene.last("push")
    repo = scene.repo()
    assert repo is not None
    assert delivery.state is DeliveryState.PROCESSED and delivery.repo_id == repo.id and delivery.sender == "octocat"
    assert scene.api.wiring.git.has_commit(str(repo.id), sha)
