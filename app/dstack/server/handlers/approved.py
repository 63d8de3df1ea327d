"""Somebody with write access approved a commit of a fork's pull request; whether they may was asked before."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.server.decide.trust import short
from dstack.server.handlers.registry import handles
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.approve_pull import approve_pull
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring


@handles("approved")
def handle_approved(wiring: Wiring, delivery: Delivery) -> None:
    """Body: `number`, `sha` (the head, or the beginning of it), `by`, `gpu_seconds` (None: no limit), `base`: the
    branch it went to where `by` looked at it."""
    body, now = delivery.body, wiring.clock.now()

    def unit(session: Session) -> None:
        repo = repo_by_id(session, delivery.repo_id or 0)
        runs = approve_pull(
            session,
            repo,
            body["number"],
            body["sha"],
            by=body["by"],
            gpu_seconds=body.get("gpu_seconds"),
            now=now,
            seen_base=body.get("base"),
        )
        names = ", ".join(run.name for run in runs)
        reason = f"{short(body['sha'])} of #{body['number']} is approved; " + (names or "none of its runs waits")
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, reason, now)

    try:
        wiring.db.write(unit)
    except DstackError as error:
        reason = f"{error.message}. {error.hint}".strip()
        wiring.db.write(lambda s: settle_delivery(s, delivery.id or 0, DeliveryState.FAILED, reason, now))
