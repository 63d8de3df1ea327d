"""Remembers what questions about requirements were answered, so that a warm job asks no resolver."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path


class Resolutions:
    """A folder of answers, each the lock text and when it was found. The texts may name private indexes: owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def find(self, question: str) -> tuple[float, str] | None:
        """When it was answered and what; None when it never was (or the record is torn)."""
        try:
            data = json.loads(self._place(question).read_bytes())
            return float(data["at"]), str(data["lock"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, question: str, at: float, lock: str) -> None:
        place = self._place(question)
        fresh = place.with_name(f".{place.name}.{threading.get_ident()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"at": at, "lock": lock}, file)
        fresh.replace(place)

    def _place(self, question: str) -> Path:
        return self._root / f"{question}.json"
