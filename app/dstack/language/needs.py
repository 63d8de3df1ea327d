"""The graph of workflows that run before others: its loops, its gaps, and what a start pulls in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dstack.language.project import Project
from dstack.language.workflow import Dependency, Workflow


def missing_dependencies(workflows: Mapping[str, Workflow], names: set[str]) -> Iterator[tuple[Workflow, Dependency]]:
    """Dependencies on workflows that this repository does not have. Those of other repositories are not looked at."""
    for workflow in workflows.values():
        for dependency in workflow.depends_on:
            if dependency.repo is None and dependency.workflow not in names:
                yield workflow, dependency


def find_loops(workflows: Mapping[str, Workflow]) -> list[tuple[str, ...]]:
    """Every loop once, as `a -> b -> a`. Dependencies on tags make none: they point at earlier runs."""
    done: set[str] = set()
    loops: list[tuple[str, ...]] = []
    for start in workflows:
        path: dict[str, Iterator[str]] = {}  # the workflows from `start` to here, each with the needs not yet followed
        following = start if start not in done else None
        while following is not None or path:
            if following is not None:
                path[following] = iter(workflows[following].needs)
            here, needs = next(reversed(path.items()))
            following = next((n for n in needs if n in workflows and n not in done), None)
            if following is None:
                done.add(here)
                del path[here]
            elif following in path:
                names = list(path)
                loops.append((*names[names.index(following) :], following))
                following = None
    return loops


def _reachable(workflows: Mapping[str, Workflow], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in seen and name in workflows:
            seen.add(name)
            todo += workflows[name].needs
    return seen


def close_over_needs(project: Project, names: Iterable[str]) -> tuple[str, ...]:
    """These workflows and all that run before them, each after what it needs; otherwise in the order of the file."""
    wanted: set[str] = set()
    for name in names:
        wanted |= _reachable(project.workflows, name)
    result: list[str] = []
    placed: set[str] = set()
    todo = [name for name in project.workflows if name in wanted]
    while todo:
        ready = [n for n in todo if all(need in placed or need not in wanted for need in project.workflows[n].needs)]
        assert ready, "read_project refuses loops"
        result += ready
        placed.update(ready)
        todo = [name for name in todo if name not in placed]
    return tuple(result)
