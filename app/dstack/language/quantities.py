"""Sizes, durations and whole numbers as people write them; nothing of where they stand.

`GB` and `GiB` both mean 2**30 bytes, as memory is sold, labelled and asked for; a decimal reading of `16GB` would make
a machine of 16 GiB look larger than asked for and never smaller, so the binary one is the careful choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SIZE_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
DURATION_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
MAX_SIZE = 2**60
MAX_DURATION_S = 366 * 86_400

_SIZE = re.compile(r"(\d{1,12})(?:\.(\d{1,6}))?\s*([KMGTP])(?:i?B)?\Z", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d{1,12})\s*([dhms])(?:\s+|(?=\d)|\Z)")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")


class Wrong(ValueError):
    """A text is not what was expected; `suggestion` says what was probably meant, `message` replaces "found ..."."""

    def __init__(self, suggestion: str = "", message: str = "") -> None:
        super().__init__(message or suggestion)
        self.suggestion = suggestion
        self.message = message


def parse_size(text: str) -> int:
    """Bytes: `16GB`, `512 MiB`, `1.5TB`. Raises Wrong."""
    match = _SIZE.match(text.strip())
    if not match:
        raise Wrong(f'write the unit: "{text}GB"' if text.strip().isdigit() and len(text) < 8 else "")
    whole, fraction, unit = match.groups()
    factor = SIZE_UNITS[unit.upper()]
    size = int(whole) * factor + int(int(fraction or 0) * factor / 10 ** len(fraction or ""))
    if not 0 < size <= MAX_SIZE:
        raise Wrong()
    return size


def parse_duration(text: str) -> int:
    """Seconds: `90s`, `10m`, `1h30m`, `2d`. Raises Wrong."""
    text = text.strip()
    at = total = 0
    while at < len(text):
        match = _DURATION_PART.match(text, at)
        if not match:
            break
        total += int(match[1]) * DURATION_UNITS[match[2]]
        at = match.end()
    if not text or at < len(text):
        raise Wrong(f'write the unit: "{text}s", "{text}m" or "{text}h"' if text.isdigit() and len(text) < 9 else "")
    if not 0 < total <= MAX_DURATION_S:
        raise Wrong()
    return total


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if not _INTEGER.match(text) or len(text) > 20 or not low <= int(text) <= high:
            raise Wrong()
        return int(text)

    return parse


def parse_boolean(text: str) -> bool:
    """`true` or `false`: YAML 1.1's yes, no, on and off are answered with the word to write. Raises Wrong."""
    lower = text.lower()
    if lower in ("true", "false"):
        return lower == "true"
    if lower in ("yes", "on", "y", "1"):
        raise Wrong("write true")
    if lower in ("no", "off", "n", "0"):
        raise Wrong("write false")
    raise Wrong()
