"""Takes into the inbox what the forge's own delivery log has and we have not: webhooks that never reached us."""

from __future__ import annotations

import logging
from functools import partial

from dstack.errors import ForgeRefused, Malformed
from dstack.server.decide.watching import not_arrived, read_log_from
from dstack.server.forge_events import parse_payload, read_data, why_own, why_unused
from dstack.server.gateways.forge_facts import SentDelivery
from dstack.server.store.deliveries import Webhook, guids_known
from dstack.server.store.github import log_read_to, note_log_read, stored_app
from dstack.server.transitions.deliveries import file_webhooks
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
STILL_COMING_S = 20.0  # GitHub gives up on a delivery after ten


def fetch_deliveries(wiring: Wiring, *, at_once: bool) -> int:
    """How many were taken in, from where the last look ended. `at_once` (no webhooks are expected): also those of this
    moment. Raises ForgeFailed."""
    now = wiring.clock.now()
    app_id, connected_at = _app_in_use(wiring, now)
    begun, read = wiring.db.write(partial(log_read_to, app_id=app_id, connected_at=connected_at))
    fetched = _fetch_since(wiring, read_log_from(begun, read, now), at_once)
    wiring.db.write(partial(note_log_read, app_id=app_id, now=now))
    return fetched


def _app_in_use(wiring: Wiring, now: float) -> tuple[int, float]:
    """The App's id, and when it was connected here; one of the settings, as far as anybody knows, `now`."""
    app = wiring.db.read(stored_app)
    if wiring.settings.github_app_id is not None or app is None:
        return wiring.settings.github_app_id or 0, now
    return app.app_id, app.created_at


def _fetch_since(wiring: Wiring, since: float, at_once: bool) -> int:
    sent = list(wiring.forge.sent_deliveries(since))
    known = wiring.db.read(lambda s: guids_known(s, [one.guid for one in sent]))
    before = wiring.clock.now() - (0 if at_once else STILL_COMING_S)
    fetched = 0
    for lost in not_arrived(sent, known, before=before + (60 if at_once else 0)):
        webhook = _fetch(wiring, lost)
        if webhook is not None:
            wiring.db.write(partial(file_webhooks, webhooks=[webhook]))
            fetched += 1
    return fetched


def _fetch(wiring: Wiring, lost: SentDelivery) -> Webhook | None:
    try:
        name, payload = wiring.forge.sent_payload(lost.id)
        event = read_data(name, parse_payload(payload))
    except (ForgeRefused, Malformed) as error:
        log.warning("delivery %s of GitHub's log: %s", lost.guid, error.message, extra={"action": "github"})
        return None
    origin = event.origin
    return Webhook(
        guid=lost.guid,
        event=origin.name,
        forge_id=origin.repo.forge_id if origin.repo else "",
        sender=origin.sender,
        payload=payload,
        digest="",  # the log's payload is the same event, not the same bytes
        ignored=why_unused(event) or why_own(event, wiring.forge.slug),
        received_at=wiring.clock.now(),
    )
