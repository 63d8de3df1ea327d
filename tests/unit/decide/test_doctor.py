"""What the doctor finds, and the manifest an App is made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dstack.server.decide.app_manifest import NOWHERE, hook_address, manifest, read_template
from dstack.server.decide.doctor import AppSeen, Installed, Level, OurSide, better_mode, examine, is_private

APP_YML = yaml.safe_load((Path(__file__).parents[3] / "app.yml").read_text())
TEMPLATE = read_template(APP_YML, push_notes=False)
URL = "https://ci.example.org"
WELL = AppSeen(
    slug="dstack-acme",
    html_url="https://github.com/apps/dstack-acme",
    permissions=TEMPLATE.permissions,
    events=TEMPLATE.events,
    hook=f"{URL}/webhooks/github",
    clock_skew_s=1.2,
    sent=10,
    arrived=10,
    installations=(Installed("acme", TEMPLATE.permissions, repos=3),),
)
OURS = OurSide(URL, "webhook", TEMPLATE)


def test_all_is_well() -> None:
    findings = examine(WELL, OURS)
    assert {f.level for f in findings} == {Level.OK}
    assert not any(f.mend for f in findings)
    assert [f.check for f in findings] == [
        "key", "clock", "permissions", "events", "webhooks", "installation acme", "reports",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("app", "ours", "check", "level", "said", "mend"),
    [
        ({"clock_skew_s": 90.0}, {}, "clock", Level.PROBLEM, "90 s behind", "NTP"),
        ({"clock_skew_s": -90.0}, {}, "clock", Level.PROBLEM, "90 s ahead of", "NTP"),
        ({"permissions": {**TEMPLATE.permissions, "checks": "read"}}, {}, "permissions", Level.PROBLEM,
         "lacks checks: write", "apps/dstack-acme/permissions"),
        ({"permissions": {**TEMPLATE.permissions, "members": "read"}}, {}, "permissions", Level.WARNING, "members", ""),
        ({"permissions": {**TEMPLATE.permissions, "contents": "write"}}, {}, "permissions", Level.OK, "", ""),
        ({"events": ["push"]}, {}, "events", Level.PROBLEM, "pull_request", "Subscribe"),
        ({"hook": "https://old.example.org/x"}, {}, "webhooks", Level.PROBLEM, "old.example", "Set the webhook URL"),
        ({"arrived": 7}, {}, "webhooks", Level.WARNING, "7 of 10", "Recent Deliveries"),
        ({"arrived": 0}, {}, "webhooks", Level.PROBLEM, "none of 10 arrived", "--fix"),
        ({"arrived": 0}, {"mode": "poll"}, "webhooks", Level.OK, "mode: poll", ""),
        ({"arrived": 0, "hook": ""}, {"mode": "poll"}, "webhooks", Level.WARNING, "Re-run", "Tick Active"),
        ({"sent": 0, "arrived": 0}, {"mode": "poll"}, "webhooks", Level.WARNING, "nothing of the last day", "Active"),
        ({}, {"unread": {"acme/big": "too large"}}, "repository acme/big", Level.WARNING, "too large", "tried again"),
        ({"sent": 0, "arrived": 0}, {"public_url": "http://127.0.0.1:3000"}, "webhooks", Level.PROBLEM, "cannot reach",
         "--fix"),
        ({"installations": ()}, {}, "installations", Level.PROBLEM, "nowhere", "installations/new"),
        ({"installations": (Installed("acme", TEMPLATE.permissions, suspended=True),)}, {}, "installation acme",
         Level.PROBLEM, "suspended", "unsuspend"),
        ({"installations": (Installed("acme", {"metadata": "read"}),)}, {}, "installation acme", Level.PROBLEM,
         "has not accepted", "accepts"),
        ({}, {"parked": ["status of abc: 404"]}, "reports", Level.WARNING, "status of abc", "--fix"),
        ({}, {"failed_deliveries": 2}, "reports", Level.WARNING, "2 deliveries", "dstack deliveries"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_how_to_mend_it(
    app: dict[str, object], ours: dict[str, object], check: str, level: Level, said: str, mend: str
) -> None:
    findings = examine(replace(WELL, **app), replace(OURS, **ours))
    found = next(f for f in findings if f.check == check)
    assert found.level is level and said in found.said and mend in found.mend
    assert bool(found.mend) == (level is not Level.OK)


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("http://127.0.0.1:3000", True),
        ("http://gpu-box:3000", True),
        ("http://gpu.local", True),
        ("http://192.168.1.5", True),
        ("http://[::1]:3000", True),
        ("https://8.8.8.8", False),
        (URL, False),
    ],
)
def test_addresses_nobody_outside_can_reach(address: str, private: bool) -> None:
    assert is_private(address) is private


def test_the_mode_is_chosen_by_what_arrived() -> None:
    assert better_mode(WELL, OURS) == "webhook"
    assert better_mode(replace(WELL, arrived=0), OURS) == "poll"
    assert better_mode(replace(WELL, sent=2, arrived=0), OURS) == "webhook", "too few to tell"
    assert better_mode(WELL, replace(OURS, mode="poll")) == "poll", "a choice that works is left alone"
    private = replace(OURS, public_url="http://10.0.0.5:3000")
    assert better_mode(WELL, private) == "webhook", "an Enterprise server reaches a private network"
    assert better_mode(replace(WELL, sent=0, arrived=0), private) == "poll"


def test_the_manifest_asks_for_the_least() -> None:
    made = manifest(TEMPLATE, name="dstack-x", public_url=URL, hook=hook_address(URL, "webhook"), redirect=f"{URL}/r")
    assert made["default_permissions"]["contents"] == "read"
    assert made["hook_attributes"] == {"url": f"{URL}/webhooks/github", "active": True}
    assert made["public"] is False
    assert hook_address(URL, "poll") == NOWHERE
    assert read_template(APP_YML, push_notes=True).permissions["contents"] == "write"
