"""Commands that a person types often start without the libraries that they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pydantic", "git", "sqlmodel", "starlette", "requests", "yaml", "jinja2")


@pytest.mark.parametrize("words", [["--version"], ["runs"], ["logs", "x"], ["tags"]], ids=" ".join)
def test_a_light_command_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from dstack.cli.main import main\n"
        "try: main(sys.argv[2:])\nexcept SystemExit: pass\n"
        "print([name for name in sys.argv[1].split() if name in sys.modules], file=sys.stderr)"
    )
    server = [] if words == ["--version"] else ["--server", "http://127.0.0.1:1", "--token", "t"]
    argv = [sys.executable, "-c", code, " ".join(HEAVY), *words, *server]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert server == [] or "no dstack server answers" in done.stderr
