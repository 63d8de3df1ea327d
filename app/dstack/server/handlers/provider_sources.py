"""Finds the providers that workflows take from other repositories, pinned to the commit their ref means now."""

from __future__ import annotations

from collections.abc import Iterable

from dstack.errors import ConfigProblems, DstackError, NotFound
from dstack.language import Project, ProviderRef, close_over_needs, read_project
from dstack.language.project import PROVIDERS
from dstack.server.decide.plan import ProviderSource
from dstack.server.gateways.snapshots import read_files
from dstack.server.models import Repo
from dstack.server.store.repos import repo_as_written
from dstack.server.wiring import Wiring


def find_providers(wiring: Wiring, project: Project, wanted: Iterable[str]) -> dict[ProviderRef, ProviderSource]:
    """One source for each provider of another repository that these workflows, or those they need, name.

    Raises ConfigProblems when one cannot be had: the run would only fail later and less clearly.
    """
    names = close_over_needs(project, tuple(wanted))
    references = {project.workflows[name].provider for name in names if project.workflows[name].provider.repo}
    return {reference: _find(wiring, reference) for reference in references}


def _find(wiring: Wiring, reference: ProviderRef) -> ProviderSource:
    where = f"provider {reference.name} of {reference.repo} at {reference.ref or 'its default branch'}"
    try:
        repo = _repo(wiring, reference.repo)
        repo_id = str(repo.id)
        sha = wiring.git.resolve(repo_id, reference.ref or wiring.git.default_branch(repo_id))
        definitions = read_project(read_files(wiring.git, repo_id, sha, (PROVIDERS,))).providers
    except DstackError as error:
        raise ConfigProblems(f"{where}: {error.message}", error.hint) from None
    if reference.name not in definitions:
        known = ", ".join(sorted(definitions)) or "none"
        raise ConfigProblems(f"{where}: its {PROVIDERS} has no such provider; it has {known}")
    return ProviderSource(definitions[reference.name], repo.id or 0, sha)


def _repo(wiring: Wiring, full_name: str) -> Repo:
    owner, _, name = full_name.partition("/")
    repo = wiring.db.read(lambda s: repo_as_written(s, owner, name))
    if repo is None:
        raise NotFound(f"this server has no repo {full_name}", "Push it to the server first.")
    return repo
