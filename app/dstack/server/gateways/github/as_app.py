"""What GitHub says to the App itself: who it is, where it is installed, what it was sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from dstack.errors import ForgeRefused
from dstack.server.gateways.forge_facts import AppFacts, ForgeRepo, InstallationFacts, NewApp, SentDelivery
from dstack.server.gateways.github.addresses import named_repo, part
from dstack.server.gateways.github.answers import Answer, Params
from dstack.server.gateways.github.calls import Calls
from dstack.server.gateways.github.problems import answered_at
from dstack.server.gateways.github.reading import (
    get,
    items,
    need_number,
    read_app,
    read_delivery,
    read_installation,
    read_new_app,
    read_repo,
    text,
)

_DELIVERIES = "/app/hook/deliveries"


def convert_manifest(calls: Calls, code: str) -> NewApp:
    try:
        path = f"/app-manifests/{part(code)}/conversions"
        return read_new_app(calls.as_nobody("POST", path, shown="/app-manifests/.../conversions").data)
    except ForgeRefused as error:
        if error.answer != 404:
            raise
        hint = "A code works once, and for one hour: begin again."
        raise ForgeRefused("GitHub does not know this code", hint, answer=404) from None


def app(calls: Calls) -> AppFacts:
    asked_at = time.time()
    answer = calls.as_app("GET", "/app")
    ours = (asked_at + time.time()) / 2
    theirs = answered_at(answer.headers)
    # The header has whole seconds, cut: on average it is half a second old.
    return read_app(answer.data, 0.0 if theirs is None else theirs + 0.5 - ours)


def hook_address(calls: Calls) -> str:
    try:
        return text(calls.as_app("GET", "/app/hook/config").data, "url")
    except ForgeRefused as error:
        if error.answer == 404:  # an App that was made without a webhook
            return ""
        raise


def installations(calls: Calls) -> list[InstallationFacts]:
    def ask(wanted: Params) -> Answer:
        return calls.as_app("GET", "/app/installations", params=wanted)

    return [read_installation(one) for answer in calls.pages(ask, {}) for one in items(answer.data)]


def repos_of(calls: Calls, installation: int) -> list[ForgeRepo]:
    return [read_repo(one) for one in calls.listed(installation, "/installation/repositories", key="repositories")]


def find_repo(calls: Calls, owner: str, name: str) -> tuple[ForgeRepo, int]:
    try:
        found = calls.as_app("GET", named_repo(owner, name, "installation"))
    except ForgeRefused as error:
        if error.answer != 404:
            raise
        hint = "Install the App on it, or look at the name."
        raise ForgeRefused(f"the App is not installed on {owner}/{name}", hint, answer=404) from None
    installation = need_number(found.data, "id")
    return read_repo(calls.at(installation, "GET", named_repo(owner, name)).data), installation


def sent_deliveries(calls: Calls, since: float) -> Iterator[SentDelivery]:
    def ask(wanted: Params) -> Answer:
        return calls.as_app("GET", _DELIVERIES, params=wanted)

    for answer in calls.pages(ask, {}):
        for delivery in map(read_delivery, items(answer.data)):
            if delivery.delivered_at < since:
                return
            yield delivery


def sent_payload(calls: Calls, delivery_id: int) -> tuple[str, bytes]:
    data = calls.as_app("GET", f"{_DELIVERIES}/{delivery_id}").data
    headers = get(data, "request", "headers")
    named = {str(k).lower(): str(v) for k, v in headers.items()} if isinstance(headers, dict) else {}
    payload = get(data, "request", "payload")
    if payload is None:
        raise ForgeRefused(f"GitHub has the payload of delivery {delivery_id} no more", answer=404)
    content = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return named.get("x-github-event") or text(data, "event"), content.encode()
