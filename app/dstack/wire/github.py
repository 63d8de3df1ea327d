"""Messages of the client API about the connection to GitHub."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GithubView:
    """How the server stands to GitHub. `mode` is how events come in: `webhook` or `poll`."""

    connected: bool
    app: str = ""
    app_url: str = ""
    install_url: str = ""
    mode: str = "webhook"
    accounts: list[str] = field(default_factory=list)
    repos: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GithubAppRequest:
    """Make a GitHub App for this server. `organization` empty: it belongs to whoever opens the page; `mode` empty: as
    the server's address allows."""

    name: str = ""
    organization: str = ""
    mode: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class GithubAppStart:
    """The page that leads to GitHub, to be opened in a browser within the hour."""

    url: str


@dataclass(frozen=True, slots=True)
class FindingView:
    """`level` is `ok`, `warning` or `problem`; `mend` says what to do."""

    check: str
    level: str
    said: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    fix: bool = False


@dataclass(frozen=True, slots=True)
class DoctorView:
    """`advised` is the mode that fits; `done` is what was mended, where that was asked for."""

    findings: list[FindingView]
    mode: str
    advised: str
    done: list[str] = field(default_factory=list)
