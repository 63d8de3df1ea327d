"""The public API for authors of custom providers: `from dstack import Provider, Job, Resources, Gpu`.

Names are loaded on first use, so that `import dstack` costs nothing; underneath is the standard library alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dstack.version import __version__

if TYPE_CHECKING:
    from dstack.providers.base import Provider
    from dstack.wire.job import ArtifactSpec, Command, Gpu, Job, MetricsSpec, PythonSpec, Resources, Retry

__all__ = [
    "ArtifactSpec",
    "Command",
    "Gpu",
    "Job",
    "MetricsSpec",
    "Provider",
    "PythonSpec",
    "Resources",
    "Retry",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'dstack' has no attribute {name!r}")
    return getattr(import_module("dstack.providers.base" if name == "Provider" else "dstack.wire.job"), name)
