"""The server's settings: variables, flags that win over them, and what is refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.errors import Usage
from dstack.server.settings import load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATA", "HOST", "PORT", "URL", "ADMIN_TOKEN"):
        monkeypatch.delenv(f"DSTACK_{name}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_without_a_word_it_serves_this_machine_alone(tmp_path: Path) -> None:
    found = load_settings()
    assert (found.host, found.port, found.public_url) == ("127.0.0.1", 3000, "http://127.0.0.1:3000")
    assert found.data == tmp_path / "dstack" / "server" and found.admin_token is None


def test_variables_are_read_and_flags_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "DATA": str(tmp_path / "d"),
        "HOST": "0.0.0.0",
        "PORT": "4000",
        "URL": "https://ci.example.org/",
        "ADMIN_TOKEN": "t" * 20,
    }
    for name, value in given.items():
        monkeypatch.setenv(f"DSTACK_{name}", value)
    found = load_settings()
    assert (found.data, found.host, found.port, found.admin_token) == (tmp_path / "d", "0.0.0.0", 4000, "t" * 20)
    assert (found.public_url, found.local_url) == ("https://ci.example.org", "http://127.0.0.1:4000")
    flags = load_settings(host="::1", port="5000", data=str(tmp_path / "e"), url=None)
    assert (flags.data, flags.host, flags.port, flags.public_url) == (
        tmp_path / "e", "::1", 5000, "https://ci.example.org",
    )  # fmt: skip
    assert flags.local_url == "http://[::1]:5000"


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "many"), ("PORT", "70000"), ("URL", "example.org"), ("LEASE_S", "0")]
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DSTACK_{name}", value)
    with pytest.raises(Usage, match=f"DSTACK_{name}"):
        load_settings()
