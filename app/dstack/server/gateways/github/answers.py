"""Answers of GitHub that may be the same next time: what we read of them is kept with their ETag, so that polling costs
no rate limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Params = Mapping[str, str | int]
# For all that is kept: mostly empty lists. A pull request has about 20 kB in JSON, of which we read about 500 bytes:
# there is room for several thousand of them.
MOST_BYTES = 4 * 1024 * 1024
_OVERHEAD = 1024  # headers, and the entry itself


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: what the JSON says, or what was read of it, and the headers by lower-case name."""

    status: int
    data: Any
    headers: Mapping[str, str]

    @property
    def next_page(self) -> dict[str, str] | None:
        """The parameters of the next page; None at the end. Only they are taken over from the link, so that nobody is
        sent with our token to another address."""
        for link in self.headers.get("link", "").split(","):
            address, _, kind = link.partition(";")
            if 'rel="next"' in kind.replace("'", '"'):
                return dict(parse_qsl(urlsplit(address.strip().strip("<>")).query))
        return None


@dataclass(frozen=True, slots=True)
class _Kept:
    asked: str
    etag: str
    answer: Answer
    size: int


class KeptAnswers:
    """The last answers, by what was asked; used from several threads. `asked` are the parameters: of one list only the
    answer to the last ones is kept, since older ones are not asked again."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def find(self, key: str, asked: str) -> tuple[str, Answer] | None:
        """The ETag and the answer it stands for."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.asked != asked:
                return None
            self._kept.move_to_end(key)
            return kept.etag, kept.answer

    def keep(self, key: str, asked: str, answer: Answer, read: Callable[[Any], Any]) -> Answer:
        """The answer with what `read` takes out of its data, which alone is kept; raises what that raises."""
        answer = replace(answer, data=read(answer.data))
        size = len(repr(answer.data))
        with self._lock:
            self._forget(key)
            if etag := answer.headers.get("etag"):
                self._kept[key] = _Kept(asked, etag, answer, size + _OVERHEAD)
                self._bytes += size + _OVERHEAD
            while self._bytes > self._most_bytes:
                self._forget(next(iter(self._kept)))
        return answer

    def _forget(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        self._bytes -= kept.size if kept is not None else 0
