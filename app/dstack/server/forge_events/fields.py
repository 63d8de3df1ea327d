"""Takes typed values out of parsed JSON and names the field when one is missing or of another kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dstack.errors import Malformed

_MAX_TEXT = 300_000  # a comment has at most 262 144 bytes; nothing else we read is near that


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, and the path to it. What may be left out has a default, which also stands in for null."""

    values: dict[str, Any]
    path: str = ""

    def text(self, name: str, default: str | None = None) -> str:
        """Raises Malformed, also for text that cannot be stored (NUL, half of a surrogate pair)."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        if "\0" in value or len(value) > _MAX_TEXT or not _is_unicode(value):
            raise self._wrong(name, "text that can be stored")
        return value

    def whole(self, name: str) -> int:
        """A whole number such as an id. Raises Malformed."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise self._wrong(name, "a whole number")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def moment(self, name: str) -> float:
        """ISO 8601, or seconds, as seconds since the epoch. Raises Malformed."""
        value = self.values.get(name)
        try:
            if isinstance(value, int) and not isinstance(value, bool):
                return float(value)
            found = datetime.fromisoformat(self.text(name))
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise self._wrong(name, "a time") from None

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def table(self, name: str) -> Fields:
        """Raises Malformed."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields(value, self._at(name))

    def maybe(self, name: str) -> Fields | None:
        """The object, None where there is none."""
        return self.table(name) if self.has(name) else None

    def tables(self, name: str) -> Iterator[Fields]:
        """Those of a list; an absent list has none."""
        value = self.values.get(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        for number, item in enumerate(value):
            if not isinstance(item, dict):
                raise self._wrong(f"{name}[{number}]", "an object")
            yield Fields(item, self._at(f"{name}[{number}]"))

    def words(self, name: str) -> tuple[str, ...]:
        """A list of text; what is no text is left out."""
        value = self.values.get(name)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _wrong(self, name: str, expected: str) -> Malformed:
        return Malformed(f"{self._at(name)} of the event is not {expected}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
