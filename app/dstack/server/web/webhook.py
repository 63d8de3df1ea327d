"""The door for GitHub's webhooks: limits, signature, one look at what it is, stored, answered. Handling comes later.

Nothing of a body counts before its signature has been found right, and nothing is answered before it is on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Sequence
from functools import partial

from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dstack.errors import Conflict, Malformed, NotSignedIn, TooMany, TooSlow, Unavailable, UnsupportedMedia
from dstack.server.failpoints import reach
from dstack.server.forge_events import parse_payload, read_data, why_own, why_unused
from dstack.server.store.deliveries import Filed, Webhook
from dstack.server.transitions.deliveries import file_webhooks
from dstack.server.web.content import read_body
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
PATH = "/webhooks/github"
MAX_BYTES = 25 * 1024 * 1024  # GitHub sends no larger ones
BODY_S = 10.0  # GitHub itself waits no longer for the answer
# Of all bodies on their way in: a signature can be checked only once a body is there. Only what has come counts, and
# large ones leave room for small ones: anybody may announce a body, and nearly all of GitHub's have a few kilobytes.
_HELD_BYTES = 4 * MAX_BYTES
_HELD_BY_LARGE = 3 * MAX_BYTES
_SMALL = 256 * 1024
_TOGETHER = 64
_LARGE = 1024 * 1024
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}\Z")
_GUID = re.compile(r"[A-Za-z0-9-]{1,100}\Z")
_CONNECT = "`dstack github connect` makes an App and tells its secret to this server."


def webhook_route(wiring: Wiring) -> Route:
    return Route(PATH, WebhookDoor(wiring).post, methods=["POST"], name="webhook")


class WebhookDoor:
    """Those that come while others are being stored are stored together with the next: one sync of the disk serves a
    whole burst."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._waiting: list[tuple[Webhook, asyncio.Future[Filed]]] = []
        self._storing: asyncio.Task[None] | None = None
        self._held = 0

    async def post(self, request: Request) -> Response:
        """Raises what is wrong with the request; 202 once it is stored, also when it was stored before."""
        secrets = self._wiring.forge.webhook_secrets
        if not secrets:
            raise Unavailable("no GitHub App is connected to this server", _CONNECT)
        _check_form(request)
        signature = _signature(request)
        body = await self._read(request)
        if len(body) > _LARGE:  # hashing and reading it would hold up everybody else
            webhook = await asyncio.to_thread(self._verified, request, body, signature, secrets)
        else:
            webhook = self._verified(request, body, signature, secrets)
        filed = await self._store(webhook)
        reach("delivery-committed")
        if filed.outcome == "differs":
            log.warning("delivery %s came again with another body", filed.delivery_id, extra={"action": "webhook"})
            raise Conflict("this delivery came before with another body")
        return JSONResponse({"delivery": filed.delivery_id, "state": filed.outcome}, 202)

    async def _read(self, request: Request) -> bytes:
        came = 0

        def hold(size: int) -> None:
            nonlocal came
            if self._held + size > (_HELD_BYTES if came + size <= _SMALL else _HELD_BY_LARGE):
                raise TooMany("too many webhooks come in at once", "GitHub's are delivered again later.")
            came += size
            self._held += size

        try:
            async with asyncio.timeout(BODY_S):
                return await read_body(request, MAX_BYTES, hold)
        except TimeoutError:
            raise TooSlow(f"the body did not come in within {BODY_S:.0f} seconds") from None
        finally:
            self._held -= came

    def _verified(self, request: Request, body: bytes, signature: bytes, secrets: Sequence[str]) -> Webhook:
        _check_signature(body, signature, secrets)
        return self._read_webhook(request, body)

    def _read_webhook(self, request: Request, body: bytes) -> Webhook:
        guid, name = request.headers.get("x-github-delivery", ""), request.headers.get("x-github-event", "")
        if not _GUID.match(guid):
            raise Malformed("X-GitHub-Delivery is not the id of a delivery")
        event = read_data(name, parse_payload(body))
        origin = event.origin
        return Webhook(
            guid=guid,
            event=origin.name,
            forge_id=origin.repo.forge_id if origin.repo else "",
            sender=origin.sender,
            payload=body,
            digest=hashlib.sha256(body).hexdigest(),
            ignored=why_unused(event) or why_own(event, self._wiring.forge.slug),
            received_at=self._wiring.clock.now(),
        )

    async def _store(self, webhook: Webhook) -> Filed:
        self._wiring.rush.note_one()
        filed: asyncio.Future[Filed] = asyncio.get_running_loop().create_future()
        self._waiting.append((webhook, filed))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        return await filed

    async def _store_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                await self._store_some(batch)
        finally:
            self._storing = None

    async def _store_some(self, batch: Sequence[tuple[Webhook, asyncio.Future[Filed]]]) -> None:
        try:
            filed = await self._wiring.db.write_async(partial(_unit, webhooks=[webhook for webhook, _ in batch]))
        except Exception as error:  # noqa: BLE001 - handed to all who wait: the batch is one unit
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), one in zip(batch, filed, strict=True):
            if not answer.done():  # whoever sent it may have gone away
                answer.set_result(one)


def _unit(session: Session, webhooks: Sequence[Webhook]) -> list[Filed]:
    return file_webhooks(session, webhooks)


def _check_form(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia(
            f"a webhook in the form {kind[:60]!r} is not read",
            "Set the App's webhook content type to application/json.",
        )


def _signature(request: Request) -> bytes:
    """The header as GitHub writes it; every other form is refused like a wrong one, so that nothing is learned."""
    given = request.headers.get("x-hub-signature-256", "")
    if not _SIGNATURE.match(given):
        raise _not_signed()
    return given.encode()


def _check_signature(body: bytes, signature: bytes, secrets: Sequence[str]) -> None:
    """Any of the accepted secrets may have signed it; all are tried, so that the time says nothing of which."""
    wanted = [b"sha256=" + hmac.new(s.encode(), body, hashlib.sha256).hexdigest().encode() for s in secrets]
    found = [hmac.compare_digest(signature, one) for one in wanted]
    if not any(found):
        raise _not_signed()


def _not_signed() -> NotSignedIn:
    return NotSignedIn(
        "the webhook is not signed with this server's secret",
        "The App's webhook secret and the server's must be one: `dstack github doctor`.",
    )
