"""How a dependency is spelled: `prepare`, `prepare:latest`, `prepare:latest?`, `owner/repo/prepare:latest`."""

from __future__ import annotations

import re

from dstack.language.quantities import Wrong
from dstack.language.words import parse_name, parse_repo
from dstack.language.workflow import Dependency

EXPECTED = "a workflow to run first (prepare), or a tag (prepare:latest, owner/repo/prepare:latest)"

_DEPENDENCY = re.compile(
    r"(?:(?P<repo>[^/:?]+/[^/:?]+)/)?(?P<workflow>[^/:?]+)(?::(?P<tag>[^/:?]+))?(?P<optional>\?)?\Z"
)


def parse_dependency(text: str) -> Dependency:
    """Raises Wrong."""
    match = _DEPENDENCY.match(text)
    if not match:
        raise Wrong()
    workflow, tag = parse_name(match["workflow"]), match["tag"]
    repo = parse_repo(match["repo"]) if match["repo"] else None
    if tag:
        parse_name(tag)
    elif repo:
        raise Wrong(f'name a tag: "{text.rstrip("?")}:latest"', f'"{text}" lies in another repository')
    elif match["optional"]:
        raise Wrong(f'name a tag: "{workflow}:latest?"', f'"{text}": only a tag can be optional')
    return Dependency(workflow, tag, repo, optional=bool(match["optional"]))


def parse_tag(text: str) -> Dependency:
    """A dependency that names a tag. Raises Wrong."""
    dependency = parse_dependency(text)
    if not dependency.tag or dependency.optional:
        raise Wrong(f'"{dependency.workflow}:latest"' if not dependency.tag else "leave out the ?")
    return dependency
