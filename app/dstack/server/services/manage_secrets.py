"""Sets and removes the secrets of a repo."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Invalid, NotFound
from dstack.server.models import Repo, Secret
from dstack.server.store.secrets import secret_by_name
from dstack.server.vault import Vault

MAX_VALUE = 64 * 1024
_RESERVED = ("DSTACK_", "GIT_", "LD_")


def set_secret(session: Session, repo: Repo, name: str, value: str, *, vault: Vault, by: str, now: float) -> Secret:
    """Seal and store a value, replacing the one before."""
    check_secret_name(name)
    if not value or len(value.encode()) > MAX_VALUE or "\0" in value:
        raise Invalid(f"the value of {name} must be 1 byte to 64 KB of text without NUL")
    secret = secret_by_name(session, repo.id or 0, name)
    sealed = vault.seal_secret(repo.id or 0, name, value)
    if secret is None:
        secret = Secret(
            repo_id=repo.id or 0, name=name, sealed=sealed, key_id=vault.key_id, updated_at=now, updated_by=by
        )
    secret.sealed, secret.key_id, secret.updated_at, secret.updated_by = sealed, vault.key_id, now, by
    session.add(secret)
    return secret


def delete_secret(session: Session, repo: Repo, name: str) -> None:
    secret = secret_by_name(session, repo.id or 0, name)
    if secret is None:
        raise NotFound(f"{repo.full_name} has no secret {name}")
    session.delete(secret)


def check_secret_name(name: str) -> None:
    """A secret becomes an environment variable: letters, digits, `_`, not reserved. Raises Invalid."""
    if not name.isidentifier() or not name.isascii() or len(name) > 100 or name.upper().startswith(_RESERVED):
        raise Invalid(
            f"{name!r} cannot name a secret", "Use letters, digits and '_', not starting with DSTACK_, GIT_ or LD_."
        )
