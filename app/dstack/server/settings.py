"""The server's settings: read once from `DSTACK_*` and flags, checked, frozen, passed in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dstack.errors import Usage
from dstack.wire.runner import LEASE_S


def default_data_folder() -> Path:
    """`$XDG_DATA_HOME/dstack/server`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(base) / "dstack" / "server"


class Settings(BaseSettings):
    """Every field is a setting: `DSTACK_DATA` is `data`, and so on."""

    model_config = SettingsConfigDict(env_prefix="DSTACK_", frozen=True, extra="ignore", env_ignore_empty=True)

    data: Path = Field(default_factory=default_data_folder)  # folder of database, repositories, objects and logs
    host: str = "127.0.0.1"
    port: int = Field(default=3000, ge=0, le=65535)  # 0 takes a free one
    url: str = ""  # the address people and runners use; empty: http://HOST:PORT
    admin_token: str | None = None
    max_disk_percent: float = Field(default=95, gt=0, le=100)  # no new work above it
    max_push_bytes: int = Field(default=2 * 1024**3, gt=0)
    lease_s: int = Field(default=LEASE_S, ge=2)  # how long a runner may be silent before its attempts are lost

    notify_private: bool = False  # `notify:` may post to private networks, and by http

    github_app_id: int | None = None  # these five connect a GitHub App by hand; `dstack github connect` stores them
    github_private_key: SecretStr = SecretStr("")
    github_private_key_path: Path | None = None
    github_webhook_secret: SecretStr = SecretStr("")  # two, separated by a comma, while it is being rotated
    github_api_url: str = "https://api.github.com"  # of an Enterprise server: https://HOST/api/v3
    github_url: str = "https://github.com"  # where repositories are cloned from
    github_mode: Literal["", "webhook", "poll"] = ""  # how events come in; empty: as `dstack github connect` chose
    github_write_gap_s: float = Field(default=1.0, ge=0)  # between two writes of one installation
    github_checks: Literal["workflow", "push", "off"] = "workflow"  # a check run per workflow, or one per commit
    github_issues: bool = True  # an issue for a workflow that fails where no pull request would say so
    github_notes: bool = False  # push refs/notes/dstack to GitHub too; the App then needs `contents: write`

    @field_validator("data")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("url", "github_api_url", "github_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @property
    def public_url(self) -> str:
        """The address people see: `url`, else the local one."""
        return self.url or self.local_url

    @property
    def local_url(self) -> str:
        """How a process on this machine reaches the server."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def load_settings(**flags: object) -> Settings:
    """Environment first, then the flags that were given. Raises Usage naming each setting at fault."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = [f"DSTACK_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False)]
        raise Usage("; ".join(wrong), "See `dstack server --help`.") from None
