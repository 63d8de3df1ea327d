"""Makes the GitHub App from our manifest: begins the way over GitHub's page, and takes the App that comes back."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlmodel import Session

import dstack
from dstack.errors import Conflict, Invalid, NotAllowed
from dstack.git.names import check_repo_name
from dstack.server.decide.app_manifest import AppTemplate, hook_address, manifest, read_template
from dstack.server.gateways.forge_facts import AppCredentials, NewApp
from dstack.server.models import GithubApp
from dstack.server.settings import Settings
from dstack.server.store.github import KEY_LABEL, SECRET_LABEL, stored_app
from dstack.server.wiring import Wiring

STATE_S = 3600  # GitHub's own limit for the code
_LABEL = "github manifest"


@dataclass(frozen=True, slots=True)
class Start:
    """What was asked for when the way began. `organization` empty: the App belongs to the person who makes it."""

    name: str
    organization: str
    mode: str
    by: str
    expires_at: float
    replaces: bool = False


def app_template(settings: Settings) -> AppTemplate:
    """`app.yml`, as it was installed or lies beside the code."""
    package = Path(str(dstack.__file__)).parent
    installed = package / "app.yml"
    path = installed if installed.is_file() else package.parent.parent / "app.yml"
    return read_template(yaml.safe_load(path.read_text()), push_notes=settings.github_notes)


def begin_app(wiring: Wiring, *, name: str, organization: str, mode: str, by: str, replaces: bool) -> str:
    """The address to open in a browser. Raises Conflict where an App is connected and is not to be replaced."""
    _refuse_second(wiring, replaces)
    if organization:
        check_repo_name(f"{organization}/any")
    start = Start(name or _default_name(wiring), organization, mode, by, wiring.clock.now() + STATE_S, replaces)
    sealed = wiring.vault.seal(_LABEL, json.dumps(asdict(start)))
    return f"{wiring.settings.public_url}/github/connect/{base64.urlsafe_b64encode(sealed).decode()}"


def read_state(wiring: Wiring, state: str) -> Start:
    """Raises NotAllowed for a state that is not ours, or too old."""
    try:
        data: dict[str, Any] = json.loads(
            wiring.vault.open(_LABEL, base64.b64decode(state.encode(), altchars=b"-_", validate=True))
        )
    except (Invalid, ValueError, binascii.Error):
        raise _expired() from None
    start = Start(**data)
    if start.expires_at < wiring.clock.now():
        raise _expired()
    return start


def manifest_of(wiring: Wiring, start: Start) -> dict[str, Any]:
    """What the browser is to hand to GitHub."""
    public_url = wiring.settings.public_url
    return manifest(
        app_template(wiring.settings),
        name=start.name,
        public_url=public_url,
        hook=hook_address(public_url, start.mode),
        redirect=f"{public_url}/github/connected",
    )


def form_address(settings: Settings, start: Start) -> str:
    """GitHub's page that takes a manifest."""
    owner = f"organizations/{start.organization}/" if start.organization else ""
    return f"{settings.github_url}/{owner}settings/apps/new"


def finish_app(wiring: Wiring, state: str, code: str) -> NewApp:
    """Take the App that GitHub made, keep it sealed, and speak as it. Raises NotAllowed, Conflict and ForgeFailed."""
    start = read_state(wiring, state)
    _refuse_second(wiring, start.replaces)
    if not code or len(code) > 200:
        raise _expired()
    made = wiring.forge.convert_manifest(code)
    wiring.db.write(lambda s: _store(s, wiring, made, start))
    wiring.forge.connect(AppCredentials(made.app_id, made.private_key, (made.webhook_secret,), made.slug))
    return made


def _store(session: Session, wiring: Wiring, made: NewApp, start: Start) -> None:
    old = stored_app(session)
    if old is not None:
        session.delete(old)
        session.flush()
    session.add(
        GithubApp(
            id=1,
            app_id=made.app_id,
            slug=made.slug,
            name=made.name,
            html_url=made.html_url,
            client_id=made.client_id,
            sealed_key=wiring.vault.seal(KEY_LABEL, made.private_key),
            sealed_secret=wiring.vault.seal(SECRET_LABEL, made.webhook_secret),
            mode=start.mode,
            created_at=wiring.clock.now(),
            created_by=start.by,
        )
    )


def _refuse_second(wiring: Wiring, replaces: bool) -> None:
    if wiring.forge.is_connected and not replaces:
        raise Conflict(
            f"this server is connected as {wiring.forge.slug or 'an App'} already",
            "`--replace` makes a new App instead.",
        )


def _default_name(wiring: Wiring) -> str:
    """Names of Apps are one for all of GitHub, so ours has a random part."""
    return f"dstack-{wiring.clock.new_id()[:6]}"


def _expired() -> NotAllowed:
    return NotAllowed("this way to GitHub is not open any more", "Begin again: `dstack github connect`.")
