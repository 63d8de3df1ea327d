"""Keeps texts within what the forge stores, counted in bytes of UTF-8, by leaving out the least important first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

# GitHub says 65 536 characters and takes a little more, but an issue's text over its limit is answered with 200 and
# silently not stored: stay well below.
COMMENT_BYTES: Final = 60_000


def size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text.encode())


def fitted(render: Callable[[T], str], whole: T, shorter: Iterable[Callable[[T], T]], most: int = COMMENT_BYTES) -> str:
    """`whole` rendered, made shorter step after step until it has at most `most` bytes, or no step is left."""
    text = render(whole)
    for shorten in shorter:
        if size(text) <= most:
            break
        whole = shorten(whole)
        text = render(whole)
    return text


def cut(text: str, most: int) -> str:
    """At most `most` bytes of a text, whole lines where it has such; the same object when nothing was cut."""
    raw = text.encode()
    if len(raw) <= most:
        return text
    kept = raw[: max(0, most)].decode(errors="ignore")
    lines, newline, _ = kept.rpartition("\n")
    return lines + newline if size(lines) > most // 2 else kept


def cut_start(text: str, most: int) -> str:
    """At most the last `most` bytes of a text, whole lines where it has such; for logs."""
    raw = text.encode()
    if len(raw) <= most:
        return text
    kept = raw[len(raw) - max(0, most) :].decode(errors="ignore")
    _, _, lines = kept.partition("\n")
    return lines if size(lines) > most // 2 else kept
