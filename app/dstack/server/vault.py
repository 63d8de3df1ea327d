"""Keeps the server's key: seals secrets, and derives the fencing token of an attempt from its id."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dstack.errors import Invalid
from dstack.server.models import Secret

_NONCE = 12


class Vault:
    """Holds one 256-bit key. Repr and errors never show it or anything it protects."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(hashlib.sha256(b"dstack secrets\0" + key).digest())
        self._lease_key = hashlib.sha256(b"dstack leases\0" + key).digest()
        self.key_id = hashlib.sha256(b"dstack key id\0" + key).hexdigest()[:16]

    def seal_secret(self, repo_id: int, name: str, value: str) -> bytes:
        """Nonce and ciphertext, bound to its row: a sealed value moved to another row does not open."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, value.encode(), _bound_to(repo_id, name))

    def open_secret(self, secret: Secret) -> str:
        """The value. Raises Invalid when the server's key is not the one that sealed it."""
        try:
            nonce, ciphertext = secret.sealed[:_NONCE], secret.sealed[_NONCE:]
            return self._aead.decrypt(nonce, ciphertext, _bound_to(secret.repo_id, secret.name)).decode()
        except (InvalidTag, ValueError):  # the latter for bytes too short to have been sealed at all
            raise Invalid(
                f"secret {secret.name} cannot be opened: it was sealed with another key",
                f"Set it again: `dstack secrets set {secret.name}`.",
            ) from None

    def seal(self, label: str, value: str) -> bytes:
        """Anything else worth keeping secret, bound to `label`."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, value.encode(), f"{label}\0".encode())

    def open(self, label: str, sealed: bytes) -> str:
        """The value. Raises Invalid when another key, or under another label, sealed it."""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], f"{label}\0".encode()).decode()
        except (InvalidTag, ValueError):
            raise Invalid(f"{label} cannot be opened: it was sealed with another key") from None

    def lease(self, attempt_id: str) -> str:
        """The fencing token of an attempt; nothing to store, and nobody without the key can make one."""
        digest = hmac.digest(self._lease_key, attempt_id.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def is_lease(self, attempt_id: str, token: str) -> bool:
        return hmac.compare_digest(self.lease(attempt_id).encode(), token.encode("utf-8", "replace"))


def load_vault(path: Path) -> Vault:
    """The key file, made at first start with mode 0600."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Vault(path.read_bytes())
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return Vault(path.read_bytes())


def _bound_to(repo_id: int, name: str) -> bytes:
    return f"{repo_id}:{len(name)}:{name}".encode()
