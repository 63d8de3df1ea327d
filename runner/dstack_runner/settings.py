"""What a runner is told before it starts: flags win over DSTACK_* variables, those over the file `config` wrote."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dstack.errors import Invalid, Usage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=/-]{0,62}")
DEFAULT_SLOTS = 4
MAX_SLOTS = 256
STORED = ("server", "token", "name", "data", "gpus", "slots", "labels", "isolate", "uids", "untrusted")


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked settings. `token` registers (a registration or admin token) and is not needed once registered.

    `gpus` declares pretend GPUs ("A100:40GB:2"), empty means probe. `offline_limit_s` is how long jobs go on while no
    server answers.
    """

    server: str
    data: Path
    token: str = field(default="", repr=False)
    name: str = ""
    gpus: str = ""
    slots: int = DEFAULT_SLOTS
    labels: tuple[str, ...] = ()
    offline_limit_s: float = 24 * 3600.0
    isolate: bool = True  # where the machine allows it; False runs jobs as the runner's own user
    uids: str = ""  # the range of job users, "61000-61063"; empty means the default
    untrusted: bool = False  # also takes jobs of approved pull requests of forks, where jobs are isolated
    environments_bytes: int = 50 * 1024**3
    blobs_bytes: int = 100 * 1024**3


def config_path(env: Mapping[str, str]) -> Path:
    """The file `dstack-runner config` writes."""
    base = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".config")
    return Path(base) / "dstack" / "runner.json"


def default_data(env: Mapping[str, str]) -> Path:
    """Where a runner keeps mirrors, environments and attempts when nothing is said."""
    base = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "share")
    return Path(base) / "dstack" / "runner"


def read_config(path: Path) -> dict[str, str]:
    """The stored settings; none when there is no file. Raises Usage when it cannot be read."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Usage(f"{path} cannot be read: {error}", "write it again with `dstack-runner config`") from None
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise Usage(f"{path} is not a table of texts", "write it again with `dstack-runner config`")
    return {key: value for key, value in data.items() if key in STORED}


def write_config(path: Path, values: Mapping[str, str]) -> None:
    """Store settings; the file holds a token, so it is for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(dict(values), file, indent=2, sort_keys=True)
        file.write("\n")
    fresh.replace(path)


def resolve(flags: Mapping[str, str | None], env: Mapping[str, str], stored: Mapping[str, str]) -> Settings:
    """Put the three sources together and check every value. Raises Usage or Invalid naming the one at fault."""

    def value(key: str, variable: str) -> str:
        return (flags.get(key) or env.get(variable) or stored.get(key) or "").strip()

    server = value("server", "DSTACK_SERVER")
    if not server:
        raise Usage(
            "no server is configured",
            "say --server URL, set DSTACK_SERVER, or run `dstack-runner config --server URL --token TOKEN` once",
        )
    data = value("data", "DSTACK_RUNNER_DATA")
    return Settings(
        server=check_server(server),
        token=value("token", "DSTACK_TOKEN"),
        name=check_name(value("name", "DSTACK_RUNNER_NAME") or _host_name()),
        data=(Path(data).expanduser() if data else default_data(env)).absolute(),
        gpus=value("gpus", "DSTACK_RUNNER_GPUS"),
        slots=check_slots(value("slots", "DSTACK_RUNNER_SLOTS")),
        labels=check_labels(value("labels", "DSTACK_RUNNER_LABELS")),
        isolate=check_isolate(value("isolate", "DSTACK_RUNNER_ISOLATE")),
        uids=value("uids", "DSTACK_RUNNER_UIDS"),
        untrusted=check_untrusted(value("untrusted", "DSTACK_RUNNER_UNTRUSTED")),
    )


def check_server(text: str) -> str:
    """An http(s) address without credentials, query or trailing slash."""
    if not re.fullmatch(r"https?://[^\s@?#/]+(/[^\s?#]*)?", text):
        raise Usage(f"{text!r} is not a server address", "it reads like http://host:3000 or https://ci.example.org")
    return text.rstrip("/")


def check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Invalid(f"{text!r} cannot name a runner", "use letters, digits, dots, dashes and underscores, 63 at most")
    return text


def check_slots(text: str) -> int:
    if not text:
        return DEFAULT_SLOTS
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_SLOTS:
        raise Invalid(f"slots: found {text!r}, expected a whole number from 1 to {MAX_SLOTS}")
    return int(text)


def check_isolate(text: str) -> bool:
    if text not in ("", "yes", "no"):
        raise Invalid(f"isolate: found {text!r}, expected yes or no")
    return text != "no"


def check_untrusted(text: str) -> bool:
    if text not in ("", "1", "0", "yes", "no"):
        raise Invalid(f"untrusted: found {text!r}, expected yes or no")
    return text in ("1", "yes")


def check_labels(text: str) -> tuple[str, ...]:
    labels = tuple(part.strip() for part in text.split(",") if part.strip())
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise Invalid(f"label {label!r} is not usable", "use letters, digits and . _ = / -, 63 at most")
    return tuple(dict.fromkeys(labels))


def _host_name() -> str:
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")
    return clean[:63] or "runner"
