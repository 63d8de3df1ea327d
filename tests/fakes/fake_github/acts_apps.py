"""What people do with Apps, as tests say it: register, install, suspend, press the buttons of checks."""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fake_github import events, shapes
from fake_github.acts_repos import USER, RepoActs, Which
from fake_github.permissions import EVENTS, PERMISSIONS
from fake_github.state import Account, App, CheckSuite, Installation, Json, Repo

FOR_EVER_S = 10 * 365 * 24 * 3600.0


@functools.cache
def _key(number: int) -> rsa.RSAPrivateKey:
    """Making a key costs a tenth of a second: the n-th App of every fake in a process has the same."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class AppActs(RepoActs):
    """Apps, installations, tokens and check buttons."""

    def make_app(
        self, name: str = "dstack", webhook_url: str = "", secret: str | None = None,
        permissions: Mapping[str, str] | None = None, events: Sequence[str] | None = None, owner: str = "acme",
        *, register: bool = True, setup_url: str = "", active: bool = True, external_url: str = "",
    ) -> App:  # fmt: skip
        """An App. With no `webhook_url` its deliveries are only logged, as failed; with `active` off there are none."""
        with self.lock:
            number = self.new_id()
            slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
            key = _key(sum(1 for _ in self.apps))
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
            app = App(
                number, slug, name, pem.decode(), secret if secret is not None else secrets.token_hex(20),
                f"Iv23li{secrets.token_hex(7)}", secrets.token_hex(20), webhook_url,
                dict(permissions if permissions is not None else PERMISSIONS),
                list(events if events is not None else EVENTS), self.account(owner, "Organization"),
                Account(f"{slug}[bot]", self.new_id(), "Bot"), self.clock(), f"{self.at.web}/apps/{slug}", setup_url,
                external_url or "https://example.org", active, key.public_key(),
            )  # fmt: skip
            if register:
                self.apps[app.id] = app
            self.accounts[app.bot.login.lower()] = app.bot
            return app

    def install(
        self, app: App, account: str, repos: Sequence[Which] | str | None = None,
        permissions: Mapping[str, str] | None = None, by: str = USER,
    ) -> int:  # fmt: skip
        """Install on an account: on these repositories, or on all (None or "all"). The installation's id."""
        with self.lock:
            some = None if repos is None or repos == "all" else {self.repo(which).id for which in repos}
            installation = Installation(
                self.new_id(), app, self.account(account, "Organization"), some,
                dict(permissions if permissions is not None else app.permissions), self.clock(),
            )  # fmt: skip
            self.installations[installation.id] = installation
            self._tell(installation, "created", by)
            return installation.id

    def uninstall(self, installation_id: int, by: str = USER) -> None:
        with self.lock:
            installation = self.installations[installation_id]
            self._tell(installation, "deleted", by)
            installation.gone = True

    def suspend(self, installation_id: int, by: str = USER) -> None:
        with self.lock:
            self.installations[installation_id].suspended_at = self.clock()
            self._tell(self.installations[installation_id], "suspend", by)

    def unsuspend(self, installation_id: int, by: str = USER) -> None:
        with self.lock:
            self.installations[installation_id].suspended_at = None
            self._tell(self.installations[installation_id], "unsuspend", by)

    def grant(self, installation_id: int, permissions: Mapping[str, str], by: str = USER) -> None:
        """The account accepts other permissions. Tokens given out keep what they had."""
        with self.lock:
            self.installations[installation_id].permissions = dict(permissions)
            self._tell(self.installations[installation_id], "new_permissions_accepted", by)

    def add_repos(self, installation_id: int, repos: Sequence[Which], by: str = USER) -> None:
        with self.lock:
            installation, added = self.installations[installation_id], [self.repo(which) for which in repos]
            assert installation.repo_ids is not None, "it is installed on all of them"
            installation.repo_ids |= {repo.id for repo in added}
            self.tell_repositories(installation, "added", added, self.account(by))

    def remove_repos(self, installation_id: int, repos: Sequence[Which], by: str = USER) -> None:
        with self.lock:
            installation, removed = self.installations[installation_id], [self.repo(which) for which in repos]
            assert installation.repo_ids is not None, "it is installed on all of them"
            installation.repo_ids -= {repo.id for repo in removed}
            self.tell_repositories(installation, "removed", removed, self.account(by))

    def ping(self, app: App) -> None:
        """As when the webhook's address has just been set."""
        hook: Json = {"type": "App", "id": app.id + 400_000, "name": "web", "active": True, "events": app.events,
                      "app_id": app.id, "config": {"content_type": "json", "url": app.webhook_url}}  # fmt: skip
        self.webhooks.send(app, "ping", {"zen": "Keep it logically awesome.", "hook_id": hook["id"], "hook": hook})

    def _tell(self, installation: Installation, action: str, by: str) -> None:
        reached = [repo for repo in self.repos.values() if self.reaches(installation, repo)]
        payload: Json = {
            "action": action,
            "installation": self._shown(installation),
            "repositories": [shapes.repository_line(repo) for repo in reached],
            "requester": None,
        }
        self.announce_to(installation, "installation", payload, self.account(by))

    def _shown(self, installation: Installation) -> Json:
        """As webhooks tell it: these times are numbers there."""
        made = int(installation.created_at)
        return {**shapes.installation(self.at, installation), "created_at": made, "updated_at": made}

    def tell_repositories(self, installation: object, action: str, repos: list[Repo], who: Account) -> None:
        """installation_repositories: every App is told that, subscribed or not."""
        assert isinstance(installation, Installation)
        lines = [shapes.repository_line(repo) for repo in repos]
        payload: Json = {
            "action": action, "installation": self._shown(installation),
            "repository_selection": "all" if installation.repo_ids is None else "selected",
            "repositories_added": lines if action == "added" else [],
            "repositories_removed": lines if action == "removed" else [], "requester": None,
        }  # fmt: skip
        self.announce_to(installation, "installation_repositories", payload, who)

    # Tokens

    def installation_token(self, installation_id: int, repos: Sequence[Which] | None = None) -> str:
        """An installation's token, without asking for it over REST."""
        installation = self.installations[installation_id]
        ids = {self.repo(which).id for which in repos} if repos is not None else None
        permissions = {**installation.permissions, "metadata": "read"}
        return self.new_token(
            "ghs_", self.token_life_s, installation=installation, repo_ids=ids, permissions=permissions
        ).value

    def user_token(self, login: str) -> str:
        """A person's token, for REST and as the password of Git pushes."""
        return self.new_token("ghp_", FOR_EVER_S, account=self.account(login)).value

    def expire_tokens(self) -> None:
        """All tokens given out are dead from now on."""
        with self.lock:
            for token in self.tokens.values():
                if token.installation is not None:
                    token.revoked = True

    # Buttons of checks

    def press_rerun(self, check_run_id: int, login: str = USER) -> None:
        """Re-run of one check: the suite is queued again, the run stays as it is until the App writes it."""
        with self.lock:
            repo, run = self.find_check(check_run_id)
            run.suite.reset = True
            events.check_run(self, repo, run, "rerequested", self.account(login), only=run.app)

    def press_rerun_suite(self, suite: CheckSuite | int, login: str = USER) -> None:
        """Re-run all checks."""
        with self.lock:
            wanted = suite if isinstance(suite, int) else suite.id
            for repo in self.repos.values():
                for found in repo.suites:
                    if found.id == wanted:
                        found.reset = True
                        events.check_suite(self, repo, found, "rerequested", self.account(login))
                        return
            raise KeyError(f"no check suite {wanted}")

    def press_action(self, check_run_id: int, identifier: str, login: str = USER) -> None:
        """One of the App's own buttons, which are there only when the check has completed."""
        with self.lock:
            repo, run = self.find_check(check_run_id)
            assert run.status == "completed", "no buttons before completion"
            assert identifier in [action["identifier"] for action in run.actions], f"{run.actions}"
            asked = {"identifier": identifier}
            events.check_run(
                self, repo, run, "requested_action", self.account(login), only=run.app, requested_action=asked
            )
