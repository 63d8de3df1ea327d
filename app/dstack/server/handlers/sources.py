"""Asks Git, before a plan is made, for what the plan depends on: the commits of providers and the trees of paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dstack.language import Project, close_over_needs
from dstack.language.globs import matches_any
from dstack.server.decide.plan import Occasion
from dstack.server.gateways.trees import tree_of_paths, whole_tree
from dstack.server.handlers.provider_sources import find_providers
from dstack.server.models import Repo
from dstack.server.wiring import Wiring


def with_sources(wiring: Wiring, repo: Repo, project: Project, wanted: Sequence[str], occasion: Occasion) -> Occasion:
    """The occasion with the providers and trees of the wanted workflows and those they need. Raises ConfigProblems."""
    names = close_over_needs(project, tuple(wanted))
    patterns = {project.workflows[name].paths for name in names}
    return replace(
        occasion,
        providers=find_providers(wiring, project, wanted),
        trees={paths: _tree(wiring, repo, occasion, paths) for paths in patterns},
    )


def _tree(wiring: Wiring, repo: Repo, occasion: Occasion, paths: tuple[str, ...]) -> str:
    where = occasion.objects or str(repo.id)
    if not paths:
        return whole_tree(wiring.git, where, occasion.sha)
    return tree_of_paths(wiring.git, where, occasion.sha, lambda path: matches_any(paths, path))
