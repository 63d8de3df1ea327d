"""Hides secret values in a stream of log bytes, in the encodings programs usually print, across any chunk border.

Fast because most bytes hold no secret: a value of some length must contain one of a few words wherever it stands, so
one pass over every second aligned word tells that a piece holds none. Only else are values looked for one by one.
"""

from __future__ import annotations

import base64
import json
import shlex
import sys
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = b"***"
MIN_SECRET = 4  # shorter ones would hide ordinary text, and hide nothing
_WORD = 8
MIN_LINE = 8  # a line of a secret of several lines: "}" alone is no secret
_WRAPS = (76, 64)  # columns at which `base64` and `openssl base64` break lines


def forms(secret: str) -> set[bytes]:
    """All byte strings that give `secret` away; empty for one that is too short to hide."""
    found: set[bytes] = set()
    whole = {secret, secret.strip(), *_lines(secret)}
    for text in whole:
        raw = text.encode("utf-8", "surrogateescape")
        if len(raw) >= MIN_SECRET:
            found |= {raw, *_hex(raw), *_base64_twice(raw), *_written(text)}
    return {form for form in found if len(form) >= MIN_SECRET}


def _lines(secret: str) -> Iterator[str]:
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= MIN_LINE)
        yield secret.replace("\r\n", "\n").replace("\n", "\r\n")


def _hex(raw: bytes) -> Iterator[bytes]:
    yield raw.hex().encode()
    yield raw.hex().upper().encode()


def _base64_twice(raw: bytes) -> Iterator[bytes]:
    for once in _base64(raw):
        yield once
        yield from _base64(once)
    once = base64.b64encode(raw)
    yield once
    yield from _base64(once)  # with the padding: encoded twice, its `=` is letters
    for width in _WRAPS:
        if len(once) > width:
            yield from (piece for at in range(0, len(once), width) if len(piece := once[at : at + width]) >= MIN_LINE)


def _base64(raw: bytes) -> set[bytes]:
    """The characters that `raw` alone decides, wherever it stands in what was encoded; both alphabets."""
    found = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        core = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return {core for core in found if len(core) >= MIN_SECRET}


def _written(text: str) -> Iterator[bytes]:
    """As addresses, JSON, Python and shells write it."""
    plain = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    urls = {quote(plain, safe=safe) for safe in ("", "/", "/:@")} | {quote_plus(plain)}
    yield from (url.encode() for url in urls)
    yield from (_lower_escapes(url).encode() for url in urls)
    for strict in (True, False):
        inner = json.dumps(plain, ensure_ascii=strict)[1:-1]
        yield inner.encode()
        yield inner.replace("/", "\\/").encode()
        yield json.dumps(inner, ensure_ascii=strict)[1:-1].encode()
    yield repr(plain)[1:-1].encode()
    yield plain.replace("'", "'\\''").encode()
    yield shlex.quote(plain)[1:-1].encode() if shlex.quote(plain) != plain else plain.encode()
    yield "".join(c if c.isalnum() or c in "_-./:=@%+," else "\\" + c for c in plain).encode()
    yield plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;").encode()


def _lower_escapes(url: str) -> str:
    first, *rest = url.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


class Masker:
    """One stream. `feed` gives what is safe to show; bytes that may begin a secret wait for the next piece or `flush`.

    The output does not depend on how the stream was cut. Overlapping finds become one mask.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found: set[bytes] = set()
        for secret in secrets:
            found |= forms(secret)
        self._forms = sorted(found, key=lambda form: (-len(form), form))
        self._longest = max(map(len, found), default=0)
        self._filter = _Filter(self._forms)
        self._short = [form for form in self._forms if len(form) < self._filter.shortest]
        self._begins: dict[int, list[bytes]] = {}
        for form in self._forms:
            self._begins.setdefault(form[0], []).append(form)
        self._tail = b""
        self._covered = 0  # so many bytes of the tail are behind a mask that was given out already

    def feed(self, data: bytes) -> bytes:
        """The bytes of the stream that can be shown now."""
        if not self._forms:
            return data
        held = self._tail + data
        return self._show(held, self._undecided(held))

    def flush(self) -> bytes:
        """The rest: the stream is over, or has been silent for so long that waiting for a secret's end is absurd."""
        return self._show(self._tail, len(self._tail))

    def _show(self, held: bytes, safe: int) -> bytes:
        """Mask and give what begins before `safe`; keep the rest."""
        shown: list[bytes] = []
        at = self._covered  # all before is given out
        masked_to = self._covered
        for start, end in self._found(held):
            if start >= safe:
                break
            if start >= masked_to:
                shown += (held[at:start], MASK)
            at = masked_to = max(masked_to, end)
        shown.append(held[at : max(at, safe)])
        self._tail = held[safe:]
        self._covered = max(0, masked_to - safe)
        return b"".join(shown)

    def _found(self, held: bytes) -> list[tuple[int, int]]:
        """Where forms stand, in order."""
        candidates = self._forms if self._filter.may_hold(held) else self._short
        return sorted(span for form in candidates for span in _spans(held, form))

    def _undecided(self, held: bytes) -> int:
        """Where the first form that may go on beyond the end begins."""
        for at in range(max(0, len(held) - self._longest + 1), len(held)):
            forms_here = self._begins.get(held[at])
            if forms_here:
                rest = held[at:]
                if any(len(form) > len(rest) and form.startswith(rest) for form in forms_here):
                    return at
        return len(held)


class Words:
    """Texts one by one: everything of a job that travels beside its log. May be asked from any thread."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._masker = Masker(secrets)
        self._lock = threading.Lock()

    def show(self, text: str) -> str:
        """The text without secret values, and fit to be sent: a file's name may hold bytes that are no text."""
        data = text.encode("utf-8", "replace")
        with self._lock:
            return (self._masker.feed(data) + self._masker.flush()).decode("utf-8", "replace")


def _spans(held: bytes, form: bytes) -> Iterator[tuple[int, int]]:
    at = held.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = held.find(form, at + 1)


class _Filter:
    """Tells in one pass that bytes hold none of the forms of at least `shortest` bytes. May say yes wrongly, never no.

    It looks at aligned words of 8 bytes, every one or every second: a form holds one of them whole wherever it stands,
    and which words these can be is known. Fewer words are faster, and need longer forms.
    """

    def __init__(self, forms: list[bytes]) -> None:
        filtered = [form for form in forms if len(form) >= 2 * _WORD - 1]
        self._step = 2 if filtered and min(map(len, filtered)) >= 3 * _WORD - 1 else 1
        self.shortest = (self._step + 1) * _WORD - 1
        self._words = {
            int.from_bytes(form[at : at + _WORD], sys.byteorder)
            for form in filtered
            for at in range(self._step * _WORD)
        }

    def may_hold(self, data: bytes) -> bool:
        if not self._words:
            return False
        words = memoryview(data)[: len(data) // _WORD * _WORD].cast("Q")
        return not self._words.isdisjoint(words[:: self._step])
