"""A wired server without its doors, connected to the fake GitHub, and repositories that both know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from fake_github import FakeGitHub
from fake_github.state import Call
from ready_data import ready
from sqlmodel import Session

from dstack.server.bootstrap import start
from dstack.server.gateways.forge_facts import Place
from dstack.server.models import PullRequest, Repo
from dstack.server.models.repo import GITHUB
from dstack.server.settings import Settings
from dstack.server.wiring import Wiring

NUMBERS = count(1)


@dataclass
class Scene:
    """A repository of its own for one test; `sha` is the first commit of its main branch."""

    fake: FakeGitHub
    wiring: Wiring
    repo: Repo
    sha: str
    before: int = field(default=0)  # calls of earlier tests

    @property
    def full(self) -> str:
        return self.repo.full_name

    @property
    def repo_id(self) -> str:
        return str(self.repo.id)

    @property
    def address(self) -> str:
        return f"{self.fake.url}/{self.full}.git"

    @property
    def place(self) -> Place:
        return Place(self.repo.installation_id or 0, self.repo.owner, self.repo.name)

    def calls(self, path: str = "") -> list[Call]:
        """Of this test."""
        return [call for call in self.fake.ledger[self.before :] if path in call.path]

    def pull(self, number: int) -> PullRequest:
        """A pull request of the fake as the server would know it."""
        facts = self.wiring.forge.pull(self.place, number)
        return PullRequest(
            repo_id=self.repo.id or 0, number=number, head_sha=facts.head_sha, head_branch=facts.head_branch,
            head_repo=facts.head_repo, is_fork=facts.is_fork, base_branch=facts.base_branch, base_sha=facts.base_sha,
            head_at=facts.updated_at, updated_at=facts.updated_at,
        )  # fmt: skip


@contextmanager
def connected_server(fake: FakeGitHub, data: Path, **more: object) -> Iterator[Wiring]:
    """The App is named by the settings, as an admin would do it by hand, and installed on all of acme."""
    app = fake.make_app("dstack")
    fake.install(app, "acme")
    settings = {
        "data": ready(data), "admin_token": "admin-token-for-tests", "github_app_id": app.id,
        "github_private_key": app.pem, "github_webhook_secret": app.webhook_secret, "github_api_url": fake.api_url,
        "github_url": fake.url, **more,
    }  # fmt: skip
    with start(Settings.model_validate(settings)) as started:
        yield started.wiring


def new_scene(fake: FakeGitHub, wiring: Wiring) -> Scene:
    """Another repository with one commit."""
    made = fake.create_repo(f"acme/vision-{next(NUMBERS)}", files={"train.py": "print(1)\n"})
    (installation,) = fake.installations

    def known(session: Session) -> Repo:
        repo = Repo(
            owner="acme", name=made.name, forge=GITHUB, forge_id=str(made.id), installation_id=installation,
            created_at=0.0,
        )  # fmt: skip
        session.add(repo)
        session.flush()
        return repo

    return Scene(fake, wiring, wiring.db.write(known), fake.head(made), len(fake.ledger))
