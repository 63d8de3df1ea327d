"""Reads the path of an artifact as the workflow writes it: a folder, a file or a glob; pure.

`*`, `?`, `[...]` stay inside one part of a path, `**` crosses parts. A folder is taken whole, also one a glob names.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dstack.errors import Invalid

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """`text` is the path, tidied; `folder` the part of it before any glob, whose content is walked."""

    text: str
    folder: str
    parts: tuple[re.Pattern[str] | None, ...]  # one for each part of the text; None is `**`

    def takes(self, path: str) -> bool:
        """Whether this file or folder is meant: it, or a folder above it."""
        return _matches(self.parts, path.split("/") if path else ())

    def may_hold(self, path: str) -> bool:
        """Whether this path is meant or something below it may be: others are not walked."""
        for part, expected in zip(path.split("/"), self.parts, strict=False):
            if expected is None:
                return True
            if not expected.match(part):
                return False
        return True


def read_pattern(text: str) -> Pattern:
    """Raises Invalid for a path that is absolute, leaves the checkout, or cannot be a path."""
    if text.startswith(("/", "~")) or "\\" in text or "\0" in text:
        raise Invalid(f"artifact path {text!r} is not relative to the checkout")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Invalid(f"artifact path {text!r} leaves the checkout")
    if any(part.lower() == ".git" for part in parts):
        raise Invalid(f"artifact path {text!r} lies inside .git")
    plain = next((n for n, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    if plain == len(parts):
        plain = max(0, plain - 1)  # without a glob the last part may be a file: look for it in its folder
    if parts and parts[-1] == "**":
        parts.append("*")  # what is below, not the folder's own name
    return Pattern(
        "/".join(parts),
        "/".join(parts[:plain]),
        tuple(None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts),
    )


def _matches(expected: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    """Whether the pattern matches a beginning of the path. `reach`: the pattern's places the parts so far lead to."""
    reach = _through({0}, expected)
    for part in parts:
        if len(expected) in reach:
            return True
        stay = {n for n in reach if expected[n] is None}
        on = {n + 1 for n in reach if (wanted := expected[n]) is not None and wanted.match(part)}
        reach = _through(stay | on, expected)
    return len(expected) in reach


def _through(reach: set[int], expected: Sequence[re.Pattern[str] | None]) -> set[int]:
    """`**` also stands for no part at all."""
    found = set(reach)
    for n in range(len(expected)):
        if n in found and expected[n] is None:
            found.add(n + 1)
    return found
