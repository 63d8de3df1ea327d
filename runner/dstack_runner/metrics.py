"""Reads the numbers a job reports, pure but for the tail of one file: JSON lines per step, JSON or CSV at the end.

Only finite numbers travel: a NaN is no JSON. Who reports one is told so in the log.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.runner import MetricPoint
from dstack_runner.inside import open_plain

MAX_NAME = 200
MAX_METRICS = 1000
MAX_LINE = 64 * 1024
MAX_POINTS = 1_000_000
READ_PIECE = 1024 * 1024


def is_name(name: object) -> bool:
    """Whether a metric can be called so: some printable text that can be encoded (JSON may hold half characters)."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


def number(value: object) -> float | None:
    """A finite number, also from a text that is one; None for anything else (a boolean is not a number here)."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def points_of(line: bytes, at: float) -> tuple[MetricPoint, ...]:
    """The points of one JSON line: `{"step": 1, "loss": 0.3}` or `{"name": "loss", "value": 0.3, "step": 1}`.

    Raises Invalid for a line that is neither.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise Invalid(f"not JSON: {line[:80].decode(errors='replace')!r}") from None
    if not isinstance(data, dict):
        raise Invalid(f"not a JSON object: {line[:80].decode(errors='replace')!r}")
    step = _step(data.get("step"))
    if "name" in data and "value" in data:
        pairs = [(data["name"], data["value"])]
    else:
        rest = {key: value for key, value in data.items() if key not in ("step", "time", "at", "timestamp")}
        pairs = list(flatten(rest).items())
    points = [
        MetricPoint(name, value, step, at)
        for name, raw in pairs
        if (value := number(raw)) is not None and is_name(name)
    ]
    if len(points) < len(pairs):
        raise PartlyInvalid(f"not a finite number: {line[:120].decode(errors='replace')!r}", points=tuple(points))
    return tuple(points)


class PartlyInvalid(Invalid):
    """Some values of a line cannot be kept; `points` are the others."""

    def __init__(self, message: str, hint: str = "", *, points: tuple[MetricPoint, ...]) -> None:
        super().__init__(message, hint)
        self.points = points


def flatten(data: object, prefix: str = "", depth: int = 0) -> dict[str, object]:
    """Nested tables as one, keys joined by "/"; lists are left out."""
    if not isinstance(data, dict) or depth > 10:
        return {}
    found: dict[str, object] = {}
    for key, value in data.items():
        name = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, dict):
            found |= flatten(value, name, depth + 1)
        elif not isinstance(value, list):
            found[name] = value
    return found


def final_metrics(name: str, data: bytes) -> dict[str, float]:
    """The numbers of a metrics file: nested JSON, or the last row of a CSV. Raises Invalid when it holds neither."""
    text = data.decode("utf-8-sig", "replace")
    table = _last_row(text) if name.lower().endswith((".csv", ".tsv")) else _json(name, text)
    found = {key: value for key, raw in table.items() if (value := number(raw)) is not None and is_name(key)}
    if len(found) > MAX_METRICS:
        raise Invalid(f"{name} has {len(found)} numbers; {MAX_METRICS} are kept at most")
    return found


def _json(name: str, text: str) -> dict[str, object]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{name} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise Invalid(f"{name} is not a JSON object", 'it reads like {"accuracy": 0.93}')
    return flatten(data)


def _last_row(text: str) -> dict[str, object]:
    try:
        sample = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=sample.count)
        last: dict[str, object] = {}
        for row in csv.DictReader(io.StringIO(text), delimiter=delimiter):
            last = {key.strip(): value for key, value in row.items() if isinstance(key, str)}
        return last
    except csv.Error as error:
        raise Invalid(f"the metrics file is not a CSV table: {error}") from None


def _step(value: object) -> int | None:
    found = number(value)
    return int(found) if found is not None and abs(found) < 2**53 else None


@dataclass
class MetricsTail:
    """Reads whole lines as they are appended to the file a job was given; the file may be anything, or absent."""

    path: Path
    problems: list[str] = field(default_factory=list)
    _offset: int = 0
    _rest: bytes = b""
    _count: int = 0

    def collect(self, at: float, *, last: bool = False) -> tuple[MetricPoint, ...]:
        """New points; `last` also takes a line that has no end yet."""
        points: list[MetricPoint] = []
        for line in self._lines(last):
            if not line.strip() or self._count >= MAX_POINTS:
                continue
            try:
                found = points_of(line, at)
            except PartlyInvalid as error:
                found = error.points
                self._complain(error.message)
            except Invalid as error:
                found = ()
                self._complain(error.message)
            points.extend(found)
            self._count += len(found)
        return tuple(points)

    def _complain(self, text: str) -> None:
        if len(self.problems) < 5:
            self.problems.append(text)

    def _lines(self, last: bool) -> list[bytes]:
        new = self._new_bytes()
        while last and (more := self._new_bytes()):
            new += more
        *lines, rest = (self._rest + new).split(b"\n")
        if last:
            lines, rest = [*lines, rest], b""
        self._rest = rest if len(rest) <= MAX_LINE else b""
        return [line for line in lines if len(line) <= MAX_LINE]

    def _new_bytes(self) -> bytes:
        try:
            opened = open_plain(self.path)
        except OSError:
            return b""  # not made yet, or swapped for something that is none of our business
        with opened as file:
            file.seek(self._offset)
            data = file.read(READ_PIECE)
        self._offset += len(data)
        return data
