"""Chooses, pure, which variables say where packages come from, and are safe to hand to the runner's own uv."""

from __future__ import annotations

from collections.abc import Mapping

_UV_INDEX = frozenset(
    {"UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_PRERELEASE", "UV_TORCH_BACKEND",
     "UV_EXCLUDE_NEWER", "UV_OFFLINE", "UV_NO_INDEX"}
)  # fmt: skip
_PIP_INDEX = {
    "PIP_INDEX_URL": ("UV_INDEX_URL", "UV_DEFAULT_INDEX"),
    "PIP_EXTRA_INDEX_URL": ("UV_EXTRA_INDEX_URL", "UV_INDEX"),
}


def index_settings(env: Mapping[str, str], named: frozenset[str]) -> dict[str, str]:
    """Of a job's variables, those that say where packages come from: uv's own, pip's spellings of them, and the
    `named` ones that requirement files refer to. Nothing that could make uv run something."""
    chosen = {
        name: value
        for name, value in env.items()
        if name in _UV_INDEX
        or (name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD")))
        or (name in named and not name.startswith(("LD_", "PYTHON", "UV_", "DSTACK_", "GIT_")) and name != "PATH")
    }
    for pip, uv in _PIP_INDEX.items():
        if env.get(pip) and not any(env.get(name) for name in uv):
            chosen[uv[0]] = env[pip]
    return chosen
