"""The connection to GitHub: how it stands, making an App, the doctor."""

from __future__ import annotations

import asyncio

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.server.decide.doctor import is_private
from dstack.server.services.examine_github import connected_to, events_mode, examine_github, mend_github
from dstack.server.services.forget_app import forget_app
from dstack.server.services.make_app import app_template, begin_app
from dstack.server.store.github import mirrored_repos, stored_app
from dstack.server.web.access import Audience, user_name
from dstack.server.web.operation import Call, Operations
from dstack.server.wiring import Wiring
from dstack.wire.github import DoctorRequest, DoctorView, FindingView, GithubAppRequest, GithubAppStart, GithubView

operations = Operations()
_MODES = ("", "webhook", "poll")  # empty: whichever fits the server's address


@operations.add("GET", "/api/v1/github", Audience.USER, gives=GithubView)
async def get_github(call: Call) -> GithubView:
    """Whether an App is connected, and where it is installed."""
    return await asyncio.to_thread(view_github, call.wiring)


def view_github(wiring: Wiring) -> GithubView:
    def view(session: Session) -> GithubView:
        stored, slug = stored_app(session), wiring.forge.slug
        is_stored = stored is not None and wiring.settings.github_app_id is None
        url = stored.html_url if stored and is_stored else f"{wiring.settings.github_url}/apps/{slug}" if slug else ""
        return GithubView(
            connected=wiring.forge.is_connected,
            app=slug,
            app_url=url,
            install_url=f"{wiring.settings.github_url}/apps/{slug}/installations/new" if slug else "",
            mode=events_mode(wiring),
            accounts=connected_to(session),
            repos=[repo.full_name for repo in mirrored_repos(session)],
        )

    return wiring.db.read(view)


@operations.add("POST", "/api/v1/github/app", Audience.ADMIN, takes=GithubAppRequest, gives=GithubAppStart, status=201)
async def post_app(call: Call) -> GithubAppStart:
    """Begins to make an App: answers the page to open."""
    wiring, request = call.wiring, call.body
    if request.mode not in _MODES:
        raise Invalid(f"{request.mode[:40]!r} is not a mode", "It is `webhook` or `poll`.")
    if len(request.name) > 34:
        raise Invalid("the name of a GitHub App has at most 34 characters")
    mode = request.mode or ("poll" if is_private(wiring.settings.public_url) else "webhook")
    return GithubAppStart(
        begin_app(
            wiring,
            name=request.name,
            organization=request.organization,
            mode=mode,
            by=user_name(call.caller),
            replaces=request.replace,
        )
    )


@operations.add("DELETE", "/api/v1/github/app", Audience.ADMIN, status=204)
async def delete_app(call: Call) -> None:
    """Forgets the App and its key; its repos stay as they are."""
    await asyncio.to_thread(forget_app, call.wiring)


@operations.add("POST", "/api/v1/github/doctor", Audience.ADMIN, takes=DoctorRequest, gives=DoctorView)
async def post_doctor(call: Call) -> DoctorView:
    """Looks at both sides of the connection; `fix` mends what the server can mend itself."""
    return await asyncio.to_thread(_examine, call.wiring, call.body.fix)


def _examine(wiring: Wiring, fix: bool) -> DoctorView:
    template = app_template(wiring.settings)
    diagnosis = examine_github(wiring, template)
    done = mend_github(wiring, diagnosis) if fix else []
    if done:
        diagnosis = examine_github(wiring, template)
    findings = [FindingView(f.check, f.level.value, f.said, f.mend) for f in diagnosis.findings]
    return DoctorView(findings, diagnosis.mode, diagnosis.advised, done)
