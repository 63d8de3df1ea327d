"""Repos and their secrets."""

from __future__ import annotations

import asyncio

from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.models import Repo, Secret
from dstack.server.services.add_repo import add_repo
from dstack.server.services.manage_secrets import delete_secret, set_secret
from dstack.server.store.repos import list_repos, repo_by_name
from dstack.server.store.runs import count_runs
from dstack.server.store.secrets import secrets_of_repo
from dstack.server.store.views import iso
from dstack.server.web.access import Audience, user_name
from dstack.server.web.api.runs import find_repo
from dstack.server.web.operation import Call, Operations
from dstack.wire.api import RepoRequest, RepoView, SecretRequest, SecretView

operations = Operations()
_SECRETS = "/api/v1/repos/{owner}/{name}/secrets"


def _view(session: Session, call: Call, repo: Repo) -> RepoView:
    git, repo_id = call.wiring.git, str(repo.id)
    return RepoView(
        name=repo.full_name,
        # Between its row and its folder the server may have died: the next push makes the folder.
        default_branch=git.default_branch(repo_id) if git.exists(repo_id) else repo.default_branch,
        clone_url=f"{call.wiring.settings.public_url}/git/{repo.full_name}.git",
        created_at=iso(repo.created_at),
        runs=count_runs(session, repo.id or 0),
    )


@operations.add("GET", "/api/v1/repos", Audience.USER, gives=list[RepoView])
async def get_repos(call: Call) -> list[RepoView]:
    """All repositories the server knows."""
    return await call.wiring.db.read_async(lambda s: [_view(s, call, repo) for repo in list_repos(s)])


@operations.add("POST", "/api/v1/repos", Audience.ADMIN, takes=RepoRequest, gives=RepoView, status=201)
async def post_repo(call: Call) -> RepoView:
    """Makes an empty repository to push to."""
    now = call.wiring.clock.now()

    def unit(session: Session) -> Repo:
        owner, _, name = call.body.name.partition("/")
        if repo_by_name(session, owner, name) is not None:
            raise Conflict(f"there is a repo {call.body.name} already")
        return add_repo(session, call.body.name, now)

    repo = await call.wiring.db.write_async(unit)
    await asyncio.to_thread(call.wiring.git.create, str(repo.id))
    return await call.wiring.db.read_async(lambda s: _view(s, call, repo))


def _repo(session: Session, call: Call) -> Repo:
    return find_repo(session, f"{call.path('owner')}/{call.path('name')}")


def _view_secret(secret: Secret) -> SecretView:
    return SecretView(secret.name, iso(secret.updated_at), secret.updated_by)


@operations.add("GET", _SECRETS, Audience.USER, gives=list[SecretView])
async def get_secrets(call: Call) -> list[SecretView]:
    """The names of a repo's secrets; values are never shown."""
    return await call.wiring.db.read_async(
        lambda s: [_view_secret(secret) for secret in secrets_of_repo(s, _repo(s, call).id or 0)]
    )


@operations.add("PUT", _SECRETS + "/{secret}", Audience.USER, takes=SecretRequest, gives=SecretView)
async def put_secret(call: Call) -> SecretView:
    """Sets a secret."""
    wiring, by, now = call.wiring, user_name(call.caller), call.wiring.clock.now()

    def unit(session: Session) -> SecretView:
        repo, value = _repo(session, call), call.body.value
        return _view_secret(set_secret(session, repo, call.path("secret"), value, vault=wiring.vault, by=by, now=now))

    return await wiring.db.write_async(unit)


@operations.add("DELETE", _SECRETS + "/{secret}", Audience.USER, status=204)
async def remove_secret(call: Call) -> None:
    """Removes a secret."""
    await call.wiring.db.write_async(lambda s: delete_secret(s, _repo(s, call), call.path("secret")))
