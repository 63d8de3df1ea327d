"""What is allowed but probably not meant, or not acted on yet: the warnings of `dstack lint`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dstack.language.fields import COMMON
from dstack.language.gate_warnings import doubts_of
from dstack.language.globs import is_negative_only
from dstack.language.nodes import Items, Node, Place, Scalar, Table
from dstack.language.options import BUILT_IN
from dstack.language.problems import Problem, nearest
from dstack.language.trigger_fields import ON_TABLE
from dstack.language.trigger_warnings import doubts_of_triggers
from dstack.language.workflow import Workflow

NO_EFFECT = "has no effect yet on this server"


def warnings_of(workflows: Iterable[Workflow]) -> Iterator[Problem]:
    """The warnings of usable workflows, in their order."""
    for workflow in workflows:
        if workflow.node is None:
            continue
        if workflow.name in BUILT_IN:
            said = (
                f'workflow "{workflow.name}" is named like a provider: `dstack run {workflow.name}` runs the workflow'
            )
            yield _warning(workflow.node.at, said)
        yield from _later_keys(workflow, workflow.node)
        if workflow.notify is not None and workflow.notify.url:
            said = f"{workflow.name}.notify: everybody who can read the repository can read the address"
            yield _warning(_at_key(workflow.node, "notify"), said, "put it into a secret, and write the secret's name")
        for doubt, suggestion in doubts_of(workflow):
            yield _warning(_at_key(workflow.node, "gate"), f"{workflow.name}.gate: {doubt}", suggestion)
        for key, doubt, suggestion in doubts_of_triggers(workflow):
            yield _warning(_at_key(workflow.node, "on"), f"{workflow.name}.{key}: {doubt}", suggestion)
        yield from _patterns(workflow)
        if workflow.provider.name not in BUILT_IN:
            yield from _near_misses(workflow, workflow.node)


def _warning(at: Place, message: str, suggestion: str = "") -> Problem:
    return Problem(at.file, at.line, at.column, message, suggestion=suggestion)


def _later_keys(workflow: Workflow, node: Table) -> Iterator[Problem]:
    later = {word for f in COMMON if f.later for word in f.all_spellings()}
    later_triggers = {word for f in ON_TABLE.fields if f.later for word in f.all_spellings()}
    for key, value in node.pairs:
        if key.text in later:
            yield _warning(key.at, f"{workflow.name}.{key.text}: {NO_EFFECT}")
        if key.text == "on":
            for name in _trigger_words(value):
                if name.text in later_triggers:
                    yield _warning(name.at, f"{workflow.name}.on.{name.text}: {NO_EFFECT}")


def _at_key(node: Table, name: str) -> Place:
    return next((key.at for key, _ in node.pairs if key.text == name), node.at)


def _trigger_words(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Items):
        yield from (item for item in node.items if isinstance(item, Scalar))
    else:
        yield from (key for key, _ in node.pairs)


def _patterns(workflow: Workflow) -> Iterator[Problem]:
    assert workflow.node is not None
    push, pull_request = workflow.triggers.push, workflow.triggers.pull_request
    lists = [workflow.paths]
    lists += [push.branches, push.tags, push.paths] if push else []
    lists += [pull_request.branches, pull_request.paths] if pull_request else []
    for patterns in lists:
        if is_negative_only(patterns):
            said = f"{workflow.name}: only patterns with ! ({', '.join(patterns[:3])}): nothing fits"
            yield _warning(workflow.node.at, said, 'put "**" before them')
        for pattern in patterns:
            if pattern.endswith("/"):
                yield _warning(
                    workflow.node.at, f'{workflow.name}: the pattern "{pattern}" fits no file', f'write "{pattern}**"'
                )


def _near_misses(workflow: Workflow, node: Table) -> Iterator[Problem]:
    """Options of a custom provider that look like a common key misspelt."""
    words = {word for f in COMMON for word in f.all_spellings()}
    for key, _ in node.pairs:
        hint = nearest(key.text, words, cutoff=0.85) if key.text not in words else ""
        if hint:
            yield _warning(key.at, f'{workflow.name}: "{key.text}" goes to the provider as an option of its own', hint)
