"""Answers of GitHub that may be the same next time: kept with their ETag, so that polling costs no rate limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Params = Mapping[str, str | int]
MOST_KEPT = 128  # a page has up to 100 entries


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: what the JSON says, and the headers by lower-case name."""

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


class KeptAnswers:
    """The last answers, by what was asked; used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, Answer]] = OrderedDict()

    def find(self, key: str) -> tuple[str, Answer] | None:
        """The ETag and the answer it stands for."""
        with self._lock:
            return self._kept.get(key)

    def keep(self, key: str, answer: Answer) -> None:
        if etag := answer.headers.get("etag"):
            with self._lock:
                self._kept[key] = (etag, answer)
                self._kept.move_to_end(key)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
