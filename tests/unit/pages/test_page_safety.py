"""Where a sign-in may lead, how a job's file is handed out, and that colours can be read."""

from __future__ import annotations

import re

import pytest

from dstack.server.web.page_shell import local_path, template_folder
from dstack.server.web.security_headers import download_headers


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/runs/brave-otter-17", "/runs/brave-otter-17"),
        ("/?state=failed&branch=a%2Fb", "/?state=failed&branch=a%2Fb"),
        (None, "/"),
        ("", "/"),
        ("//evil", "/"),
        ("/\\evil", "/"),
        ("/\t/evil", "/"),
        ("/\n//evil", "/"),
        ("\\\\evil", "/"),
        ("https://evil", "/"),
        ("javascript:alert(1)", "/"),
        ("evil", "/"),
        ("/ok\\..\\evil", "/"),
        ("/sign-in?next=/sign-in", "/"),
        ("/sign-out", "/"),
        ("/" + "x" * 3000, "/"),
        ("///evil", "/"),
        ("/ /evil", "/"),
    ],
)
def test_a_sign_in_leads_only_to_this_server(text: str | None, path: str) -> None:
    assert local_path(text) == path


@pytest.mark.parametrize(
    ("path", "disposition"),
    [
        ("model/weights.pt", "attachment; filename=\"weights.pt\"; filename*=UTF-8''weights.pt"),
        ("x.html", "attachment; filename=\"x.html\"; filename*=UTF-8''x.html"),
        (
            'a"b\r\nSet-Cookie: x',
            "attachment; filename=\"a_b__Set-Cookie: x\"; filename*=UTF-8''a%22b%0D%0ASet-Cookie%3A%20x",
        ),
        ("ü.svg", "attachment; filename=\"_.svg\"; filename*=UTF-8''%C3%BC.svg"),
        ("..\\..\\evil.exe", "attachment; filename=\"evil.exe\"; filename*=UTF-8''evil.exe"),
        ("", "attachment; filename=\"download\"; filename*=UTF-8''download"),
    ],
)
def test_a_file_of_a_job_is_saved_never_shown(path: str, disposition: str) -> None:
    headers = download_headers(path)
    assert headers["content-disposition"] == disposition
    assert headers["content-security-policy"].startswith("sandbox")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == "application/octet-stream"


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(char * 2 for char in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


CSS = (template_folder() / "static" / "dstack.css").read_text()
PAIRS = dict(re.findall(r"--([a-z-]+): light-dark\((#\w+, #\w+)\);", CSS))
COLOURS = {name: tuple(pair.split(", ")) for name, pair in PAIRS.items()}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_on_every_ground(theme: int) -> None:
    grounds = {name: COLOURS[name][theme] for name in ("page", "card", "raised", "log", "quiet-soft")}
    for ink in ("text", "muted", "good", "bad", "live", "wait", "quiet", "accent"):
        for ground, colour in grounds.items():
            assert contrast(COLOURS[ink][theme], colour) >= 4.5, (ink, ground)
    for tone in ("good", "bad", "live", "wait", "quiet"):
        assert contrast(COLOURS[tone][theme], COLOURS[f"{tone}-soft"][theme]) >= 4.5, tone
    assert contrast("#ffffff", COLOURS["accent-fill"][theme]) >= 4.5


def test_colours_of_logs_can_be_read() -> None:
    inks = re.findall(r"^\.f\d+, \.f\d+ \{ color: light-dark\((#\w+), (#\w+)\); \}", CSS, re.MULTILINE)
    assert len(inks) == 6
    for light, dark in inks:
        assert contrast(light, COLOURS["log"][0]) >= 4.5 and contrast(dark, COLOURS["log"][1]) >= 4.5
    grounds = re.findall(r"^\.b\d+, \.b\d+ \{ background: (#\w+); color: (#\w+); \}", CSS, re.MULTILINE)
    assert len(grounds) == 7
    for ground, ink in grounds:
        assert contrast(ground, ink) >= 4.5
