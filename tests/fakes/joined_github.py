"""The whole server on a port and a GitHub beside it, each knowing the other: webhooks really arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fake_github import App, FakeGitHub
from served_api import Api, serve, wait_for
from sqlmodel import col, select

from dstack.server.models import Delivery, NotNeeded, PullRequest, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.models.repo import GITHUB
from dstack.server.store.github import pull_by_number

REPO = "acme/vision"
FILE = ".dstack/workflows.yaml"
TRAIN = "  - {name: train, provider: bash, commands: ['true'], resources: {labels: [nobody]}, on: %s}\n"


def workflows(**on: str) -> dict[str, str]:
    """The file with a workflow for each name, and its `on:`; no runner of these tests takes the jobs."""
    return {FILE: "workflows:\n" + "".join((TRAIN % text).replace("train", name) for name, text in on.items())}


@dataclass
class Joined:
    """`installation` is that of `acme`, on all its repositories."""

    api: Api
    fake: FakeGitHub
    app: App
    installation: int = 0

    def settle(self, timeout_s: float = 20.0) -> None:
        """Until every webhook has been answered and every delivery handled."""
        self.fake.flush(timeout_s)
        waiting = select(Delivery.id).where(Delivery.state == DeliveryState.RECEIVED).limit(1)
        wait_for(lambda: not self.api.wiring.db.read(lambda s: s.exec(waiting).first()), timeout_s)

    def deliveries(self, event: str = "") -> Sequence[Delivery]:
        """Oldest first; of one event (`push`, `pull_request.opened`)."""
        query = select(Delivery).order_by(col(Delivery.id))
        return self.api.wiring.db.read(lambda s: s.exec(query.where(Delivery.event == event) if event else query).all())

    def last(self, event: str) -> Delivery:
        return self.deliveries(event)[-1]

    def runs(self, sha: str = "") -> Sequence[Run]:
        query = select(Run).order_by(col(Run.id))
        return self.api.wiring.db.read(lambda s: s.exec(query.where(Run.sha == sha) if sha else query).all())

    def not_needed(self, sha: str) -> dict[str, str]:
        """Workflow -> why."""
        query = select(NotNeeded).where(NotNeeded.sha == sha)
        return {row.workflow: row.why for row in self.api.wiring.db.read(lambda s: s.exec(query).all())}

    def repo(self, full_name: str = REPO) -> Repo | None:
        number = str(self.fake.repo(full_name).id)
        query = select(Repo).where(Repo.forge == GITHUB, Repo.forge_id == number)
        return self.api.wiring.db.read(lambda s: s.exec(query).first())

    def pull(self, number: int) -> PullRequest:
        repo = self.repo()
        assert repo is not None
        pull = self.api.wiring.db.read(lambda s: pull_by_number(s, repo.id or 0, number))
        assert pull is not None
        return pull


def knows(fake: FakeGitHub, app: App) -> dict[str, object]:
    """The settings of a server that speaks as this App."""
    return {
        "github_app_id": app.id, "github_private_key": app.pem, "github_webhook_secret": app.webhook_secret,
        "github_api_url": fake.api_url, "github_url": fake.url,
    }  # fmt: skip


@contextmanager
def joined(
    folder: Path, files: dict[str, str] | None = None, *, install: bool = True, **settings: object
) -> Iterator[Joined]:
    """`REPO` has a first commit with `files` that nobody was told of."""
    with FakeGitHub(folder / "github") as fake:
        app = fake.make_app("dstack")
        fake.create_repo(REPO, files={"train.py": "print(1)\n", **(files or {})})
        with serve(folder, **{**knows(fake, app), **settings}) as api:
            app.webhook_url = f"{api.url}/webhooks/github"
            fake.webhooks.date_by(api.clock.now)
            scene = Joined(api, fake, app)
            if install:
                scene.installation = fake.install(app, "acme")
                scene.settle()
            yield scene
            fake.flush()
        assert fake.violations == []
