"""Finds metrics in a job's log by the regular expressions of its workflow, in a process of its own.

An expression can take for ever, and Python runs it holding the interpreter's lock: here it can be ended from outside
without stopping heartbeats. Runs as a script: standard library only, question on stdin, answer on stdout.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LIMIT_S = 20.0
MAX_LINE = 8 * 1024
LAST_BYTES = 256 * 1024 * 1024  # the last match counts, so the end of a huge log is what matters


def search(patterns: Mapping[str, str], log: Path) -> tuple[dict[str, float], str]:
    """The last match of each pattern as a number, and a word about what went wrong (or nothing)."""
    question = json.dumps({"patterns": dict(patterns), "log": str(log)})
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-S", __file__], input=question, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return {}, f"the expressions for log metrics took longer than {LIMIT_S:.0f} s on this log"
    if answer.returncode != 0:
        return {}, f"log metrics: {answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else 'failed'}"
    found = json.loads(answer.stdout)
    return {str(name): float(value) for name, value in found.items()}, ""


def find(patterns: Mapping[str, str], log: Path) -> dict[str, float]:
    """The work itself, line by line."""
    compiled = {name: re.compile(text) for name, text in patterns.items()}
    found: dict[str, float] = {}
    with open(log, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LAST_BYTES))
        while line := file.readline(MAX_LINE):
            for part in line.decode("utf-8", "replace").replace("\r", "\n").split("\n"):
                for name, pattern in compiled.items():
                    match = pattern.search(part)
                    if match:
                        _keep(found, name, match[1] if pattern.groups else match[0])
    return found


def _keep(found: dict[str, float], name: str, text: str | None) -> None:
    try:
        value = float(text or "")
    except ValueError:
        return
    if value - value == 0:  # finite
        found[name] = value


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(find(asked["patterns"], Path(asked["log"])), sys.stdout)
