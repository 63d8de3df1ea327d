"""Providers turn a resolved workflow into jobs: the built-in ones here, custom ones by a short job on a runner.

Names are loaded on first use: authors of custom providers import `base` alone, which needs the standard library only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dstack.language.attempt import fill_attempt
    from dstack.providers.ad_hoc import ad_hoc
    from dstack.providers.base import Provider, ResolvedWorkflow
    from dstack.providers.custom import provider_job, secrets_it_may_pass_on
    from dstack.providers.job_list import read_jobs
    from dstack.providers.registry import BUILT_IN, jobs_for

_HOMES = {
    "ad_hoc": "dstack.providers.ad_hoc",
    "fill_attempt": "dstack.language.attempt",
    "Provider": "dstack.providers.base",
    "ResolvedWorkflow": "dstack.providers.base",
    "provider_job": "dstack.providers.custom",
    "secrets_it_may_pass_on": "dstack.providers.custom",
    "read_jobs": "dstack.providers.job_list",
    "BUILT_IN": "dstack.providers.registry",
    "jobs_for": "dstack.providers.registry",
}

__all__ = [
    "BUILT_IN",
    "Provider",
    "ResolvedWorkflow",
    "ad_hoc",
    "fill_attempt",
    "jobs_for",
    "provider_job",
    "read_jobs",
    "secrets_it_may_pass_on",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dstack.providers' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # so that a function named like its module (`ad_hoc`) is never taken for the module
    return value
