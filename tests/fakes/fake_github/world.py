"""The fake's state as a whole: finding things, handing out ids, and who is reached by an event of a repository."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fake_github import shapes
from fake_github.budget import Budget
from fake_github.git_store import Person
from fake_github.permissions import EVENT_NEEDS, covers
from fake_github.state import Account, App, Call, CheckRun, Comment, Installation, Json, Repo, Token
from fake_github.webhooks import Webhooks


class World:
    """Everything there is, under one lock (`lock`), with the addresses it is served at (`at`)."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clock = clock
        self.lock = threading.RLock()
        self.at = shapes.Addresses("", "")
        self.webhooks = Webhooks(clock, self.lock)
        self.budget = Budget(clock)
        self.accounts: dict[str, Account] = {}
        self.apps: dict[int, App] = {}
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.repos: dict[int, Repo] = {}
        self.renamed: dict[str, int] = {}  # a former full name, in lower case -> repository id
        self.manifest_codes: dict[str, tuple[App, float]] = {}
        self.ledger: list[Call] = []
        self.git_ledger: list[Call] = []
        self.violations: list[str] = []
        self.troubles: list[BaseException] = []  # what went wrong inside the fake itself
        self.token_life_s = 3600.0
        self.max_statuses = 1000
        self.public_hooks_only = False  # github.com takes no webhook addresses of private networks
        self._ids = itertools.count(1001)

    def new_id(self) -> int:
        with self.lock:
            return next(self._ids)

    def account(self, login: str, type: str = "User") -> Account:
        """The account of this login, made when it is new."""
        with self.lock:
            if login.lower() not in self.accounts:
                self.accounts[login.lower()] = Account(login, self.new_id(), type)
            return self.accounts[login.lower()]

    def person(self, login: str) -> Person:
        who = self.account(login)
        return Person(login, f"{who.id}+{login}@users.noreply.example.org")

    def repo(self, name: str | Repo) -> Repo:
        """The repository of this full name. Raises KeyError."""
        found = name if isinstance(name, Repo) else self.find_repo(name)
        if found is None:
            raise KeyError(f"no repository {name}")
        return found

    def find_repo(self, full_name: str) -> Repo | None:
        wanted = full_name.lower()
        return next((r for r in self.repos.values() if not r.gone and r.full_name.lower() == wanted), None)

    def moved_repo(self, full_name: str) -> Repo | None:
        """Where a repository of this former name is now."""
        found = self.repos.get(self.renamed.get(full_name.lower(), 0))
        return found if found and not found.gone else None

    def find_comment(self, comment_id: int) -> Comment:
        for repo in self.repos.values():
            if comment_id in repo.comments:
                return repo.comments[comment_id]
        raise KeyError(f"no comment {comment_id}")

    def find_check(self, check_run_id: int) -> tuple[Repo, CheckRun]:
        for repo in self.repos.values():
            if check_run_id in repo.checks:
                return repo, repo.checks[check_run_id]
        raise KeyError(f"no check run {check_run_id}")

    def reaches(self, installation: Installation, repo: Repo) -> bool:
        """May this installation see the repository?"""
        if installation.gone or installation.account != repo.owner or repo.gone:
            return False
        return installation.repo_ids is None or repo.id in installation.repo_ids

    def installed_on(self, repo: Repo) -> Iterator[Installation]:
        for installation in list(self.installations.values()):
            if self.reaches(installation, repo) and installation.suspended_at is None:
                yield installation

    def installation_of(self, app: App, repo: Repo) -> Installation | None:
        found = (i for i in self.installations.values() if i.app is app and self.reaches(i, repo))
        return next(found, None)

    def permission(self, repo: Repo, login: str) -> tuple[str, str]:
        """(permission, role name) of a person: owners are admins, everybody reads what is public."""
        if login in repo.permissions:
            return repo.permissions[login]
        if login == repo.owner.login:
            return "admin", "admin"
        return ("read", "read") if not repo.private else ("none", "")

    def new_token(self, prefix: str, life_s: float, **more: Any) -> Token:
        with self.lock:
            token = Token(prefix + secrets.token_urlsafe(27), self.clock() + life_s, **more)
            self.tokens[token.value] = token
            return token

    # Announcing

    def announce(self, repo: Repo, event: str, payload: Json, sender: Account, only: App | None = None) -> None:
        """Send the webhook to every App that is installed on the repository and subscribed (or to `only`, which is
        told whatever it subscribed to)."""
        with self.lock:
            for installation in self.installed_on(repo):
                app = installation.app
                if not covers(installation.permissions, EVENT_NEEDS[event]):
                    continue
                if only is app or (only is None and event in app.events):
                    self.announce_to(installation, event, payload, sender, repo)

    def announce_to(
        self, installation: Installation, event: str, payload: Json, sender: Account, repo: Repo | None = None
    ) -> None:
        whole = dict(payload)
        if repo is not None:
            whole["repository"] = {**shapes.repository(self.at, repo), **payload.get("repository", {})}
            if repo.owner.type == "Organization":
                whole["organization"] = self.organization(repo.owner)
        whole["sender"] = shapes.account(self.at, sender)
        if "installation" not in whole:
            whole["installation"] = {"id": installation.id, "node_id": f"MDIz{installation.id}"}
        self.webhooks.send(
            installation.app, event, whole, installation_id=installation.id,
            repository_id=repo.id if repo is not None else None,
        )  # fmt: skip

    def organization(self, owner: Account) -> Json:
        url = f"{self.at.api}/orgs/{owner.login}"
        links = ("repos", "events", "hooks", "issues", "members", "public_members")
        return {
            "login": owner.login, "id": owner.id, "node_id": f"O_{owner.id:x}", "url": url, "description": None,
            "avatar_url": f"{self.at.web}/u/{owner.id}?v=4", **{f"{name}_url": f"{url}/{name}" for name in links},
        }  # fmt: skip
