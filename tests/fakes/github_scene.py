"""A wired server without its doors, connected to the fake GitHub, and a repository that both know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fake_github import FakeGitHub
from sqlmodel import Session

from dstack.server.bootstrap import start
from dstack.server.gateways.forge import Place
from dstack.server.models import PullRequest, Repo
from dstack.server.models.repo import GITHUB
from dstack.server.settings import Settings
from dstack.server.wiring import Wiring

FULL = "acme/vision"


@dataclass
class Scene:
    """`sha` is the first commit of `FULL`'s main branch."""

    fake: FakeGitHub
    wiring: Wiring
    repo: Repo
    sha: str

    @property
    def repo_id(self) -> str:
        return str(self.repo.id)

    def pull(self, number: int) -> PullRequest:
        """As the server would know a pull request of the fake."""
        facts = self.wiring.forge.pull(self.place, number)
        return PullRequest(
            repo_id=self.repo.id or 0, number=number, head_sha=facts.head_sha, head_branch=facts.head_branch,
            head_repo=facts.head_repo, is_fork=facts.is_fork, base_branch=facts.base_branch, base_sha=facts.base_sha,
            head_at=facts.updated_at, updated_at=facts.updated_at,
        )  # fmt: skip

    @property
    def place(self) -> Place:
        return Place(self.repo.installation_id or 0, self.repo.owner, self.repo.name)


@contextmanager
def open_scene(fake: FakeGitHub, data: Path, **more: object) -> Iterator[Scene]:
    """The App is named by the settings, as an admin would do it by hand."""
    made = fake.create_repo(FULL, files={"train.py": "print(1)\n"})
    app = fake.make_app("dstack")
    installation = fake.install(app, "acme")
    settings = Settings.model_validate(
        {
            "data": data, "admin_token": "admin-token-for-tests", "github_app_id": app.id,
            "github_private_key": app.pem, "github_webhook_secret": app.webhook_secret,
            "github_api_url": fake.api_url, "github_url": fake.url, **more,
        }
    )  # fmt: skip
    with start(settings) as started:
        repo = started.wiring.db.write(lambda s: _known(s, made.id, installation))
        yield Scene(fake, started.wiring, repo, fake.head(FULL))


def _known(session: Session, forge_id: int, installation: int) -> Repo:
    repo = Repo(
        owner="acme", name="vision", forge=GITHUB, forge_id=str(forge_id), installation_id=installation, created_at=0.0
    )
    session.add(repo)
    session.flush()
    return repo
