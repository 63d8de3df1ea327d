"""How fast commands start, beside an empty Python of the same interpreter: pairs, one after the other, medians."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from figures import Figure, middle
from scene import TOKEN, started, workflows, write

EMPTY = [sys.executable, "-c", "pass"]
FLOW = """
name: hello
provider: bash
commands: ['true']
"""


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    rounds = 7 if quick else 31
    program = Path(sys.executable).with_name("dstack")
    with started(root) as scene:
        repo = scene.new_repo("hello", workflows(FLOW))
        for number in range(5):
            write(repo, {"change.txt": f"{number}\n"})
            scene.push_and_wait(repo)
        env = {**scene.env, "DSTACK_SERVER": scene.url, "DSTACK_TOKEN": TOKEN}
        for words, most in ((["--version"], 3), (["runs"], 10)):
            ours, floor = _pairs([str(program), *words], env, rounds)
            yield Figure(
                f"dstack {' '.join(words)}", "ms", ours, f"<= {most} x", ours <= most * floor, floor, "python -c pass",
                f"medians of {rounds} pairs",
            )  # fmt: skip


def _pairs(words: Sequence[str], env: Mapping[str, str], rounds: int) -> tuple[float, float]:
    _ms(words, env), _ms(EMPTY, env)  # the first writes the byte code
    pairs = [(_ms(words, env), _ms(EMPTY, env)) for _ in range(rounds)]
    return middle([ours for ours, _ in pairs]), middle([floor for _, floor in pairs])


def _ms(words: Sequence[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, env=dict(env), check=True, capture_output=True)
    return 1000 * (time.perf_counter() - began)
