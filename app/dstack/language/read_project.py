"""Reads the files of `.dstack/` into a Project: the workflows that are usable, and every problem of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dstack.language.definitions import read_definitions
from dstack.language.entries import entry_name, read_entry, workflow_of
from dstack.language.needs import find_loops, missing_dependencies
from dstack.language.nodes import Items, Node, Place, Scalar, Table, found, quote
from dstack.language.problems import Problem, listing, nearest
from dstack.language.project import FILES, PROVIDERS, VARIABLES, WORKFLOWS, Project
from dstack.language.reading import Reading
from dstack.language.source import read_yaml
from dstack.language.templates import Loop, env_name, expand
from dstack.language.variables import GLOBAL, Section, check_references, read_variables, variables_of
from dstack.language.warnings import warnings_of
from dstack.language.workflow import Workflow

MAX_WORKFLOWS = 1000
# Names that mean something else already.
_TAKEN = {GLOBAL: "variables use the word", "config": "the status dstack/config tells problems of these files"}


def read_project(files: Mapping[str, bytes]) -> Project:
    """The project of these files (path -> content; those of FILES count). Never raises for what they hold."""
    reading = Reading()
    trees = {name: _tree(name, files, reading) for name in FILES}
    reading.problems += [_misspelled(name) for name in files if name.endswith(".yml") and name[:-3] + "yaml" in FILES]
    variables, definitions, root = trees[VARIABLES], trees[PROVIDERS], trees[WORKFLOWS]
    sections = read_variables(variables, reading) if variables else {}
    check_references(sections, reading)
    providers = read_definitions(definitions, reading) if definitions else {}
    entries = _entries(root, reading) if root else ()
    workflows = _read_workflows(entries, sections, tuple(providers), reading)
    names = {entry_name(entry) for entry in entries}
    if root is not None:
        _check_sections(sections, names, reading)
    _check_graph(workflows, names, reading)
    return Project(
        workflows=workflows,
        variables={name: section.values for name, section in sections.items()},
        providers=providers,
        problems=_in_order(reading.problems),
        warnings=tuple(warnings_of(workflows.values())),
    )


def _tree(name: str, files: Mapping[str, bytes], reading: Reading) -> Node | None:
    if name not in files:
        return None
    root, problems = read_yaml(name, files[name])
    reading.problems += problems
    if root is None and not problems and name == WORKFLOWS:
        reading.problem(
            Place(name, 1, 1), "the file is empty", "workflows: and a list of entries", "`dstack init` writes one"
        )
    return root


def _misspelled(name: str) -> Problem:
    return Problem(name, 0, 0, "this file is not read", f"{name[:-3]}yaml", "rename it")


def _entries(root: Node, reading: Reading) -> tuple[Node, ...]:
    if not isinstance(root, Table):
        reading.problem(root.at, found(root), "a mapping with the key workflows", "begin the file with `workflows:`")
        return ()
    entries: tuple[Node, ...] | None = None
    for key, value in root.pairs:
        if key.text == "workflows":
            entries = _entry_list(value, reading)
        elif key.text == "version":
            _check_version(value, reading)
        else:
            hint = "write workflows:, a list of entries with a name each" if key.text in ("jobs", "steps") else ""
            hint = "write variables in .dstack/variables.yaml" if key.text == "variables" else hint
            reading.problem(
                key.at, f"unknown key {quote(key.text)}", "workflows", hint or nearest(key.text, ["workflows"])
            )
    if entries is None:
        reading.problem(root.at, '"workflows" is missing', "workflows: and a list of entries")
    return entries or ()


def _check_version(value: Node, reading: Reading) -> None:
    if not isinstance(value, Scalar) or value.text != "1":
        reading.wrong(value, "version", "1")


def _entry_list(node: Node, reading: Reading) -> tuple[Node, ...]:
    if not isinstance(node, Items):
        hint = "write `- name: ...` for each" if isinstance(node, Table) else ""
        reading.wrong(node, "workflows", "a list of entries", hint)
        return ()
    if len(node.items) > MAX_WORKFLOWS:
        reading.problem(node.at, f"found {len(node.items):,} workflows", f"at most {MAX_WORKFLOWS:,}")
        return ()
    return node.items


def _read_workflows(
    entries: Iterable[Node], sections: Mapping[str, Section], custom: tuple[str, ...], reading: Reading
) -> dict[str, Workflow]:
    seen: dict[str, Place] = {}
    result: dict[str, Workflow] = {}
    for number, entry in enumerate(entries):
        name = entry_name(entry)
        workflow = _read_workflow(entry, name or f"workflows[{number}]", sections, custom, reading)
        if name in seen:
            said = f'workflow "{name}" stands twice: in lines {seen[name].line} and {entry.at.line}'
            reading.problem(entry.at, said, "each name once")
        elif name in _TAKEN:
            reading.problem(entry.at, f'a workflow cannot be called "{name}": {_TAKEN[name]}', "another name")
        elif workflow:
            result[name] = workflow
        if name:
            seen.setdefault(name, entry.at)
    return result


def _read_workflow(
    entry: Node, path: str, sections: Mapping[str, Section], custom: tuple[str, ...], reading: Reading
) -> Workflow | None:
    """One workflow, read twice: as written, and once more with the defaults filled in, to see that they fit."""
    before = len(reading.problems)
    variables = variables_of(sections, path)
    names = {env_name(variable): variable for variable in variables}
    as_written = Reading(names, None, reading.problems)
    values = read_entry(entry, as_written, path, custom)
    if values is None or len(reading.problems) > before or not isinstance(entry, Table):
        return None
    try:
        defaults = expand(variables, {}, EXAMPLE_CONTEXT)
    except Loop as loop:
        reading.problem(_loop_place(loop, sections, path), f"variables are defined by each other: {loop}", "no loop")
        return None
    worth = {**EXAMPLE_CONTEXT, **{env_name(name): value for name, value in defaults.items()}}
    read_entry(entry, Reading(names, worth, reading.problems), path, custom)
    return workflow_of(values, variables, entry) if len(reading.problems) == before else None


# Stands in for what only a run knows, where a file is checked without one.
EXAMPLE_CONTEXT = {
    "run.name": "brave-otter-1", "repo": "owner/name", "sha": "0" * 40, "branch": "main", "trigger": "manual",
    "schedule.time": "1970-01-01T00:00:00Z",
}  # fmt: skip


def _loop_place(loop: Loop, sections: Mapping[str, Section], workflow: str) -> Place:
    for name in (workflow, GLOBAL):
        if name in sections and loop.names[0] in sections[name].places:
            return sections[name].places[loop.names[0]]
    return Place(VARIABLES)


def _check_sections(sections: Mapping[str, Section], names: set[str], reading: Reading) -> None:
    for name, section in sections.items():
        if name != GLOBAL and name not in names:
            known = [GLOBAL, *sorted(names - {""})]
            said = f'variables: there is no workflow "{name[:100]}"'
            reading.problem(section.at, said, f"one of {listing(known)}", nearest(name, known))


def _check_graph(workflows: Mapping[str, Workflow], names: set[str], reading: Reading) -> None:
    """Dependencies that lead nowhere or in a circle. `names` holds those of unusable workflows too: they exist."""
    for workflow, dependency in missing_dependencies(workflows, names):
        said = f'{workflow.name}.depends-on: there is no workflow "{dependency.workflow}"'
        known = sorted(names - {""})
        reading.problem(
            _place(workflow, "depends-on"), said, f"one of {listing(known)}", nearest(dependency.workflow, known)
        )
    for loop in find_loops(workflows):
        said = f"{loop[0]}.depends-on: workflows wait for each other: {' -> '.join(loop)}"
        hint = f"take a tag of an earlier run: {loop[1]}:latest"
        reading.problem(_place(workflows[loop[0]], "depends-on"), said, "no loop", hint)


def _place(workflow: Workflow, key: str) -> Place:
    assert workflow.node is not None
    spelled = (key, key.replace("-", "_"))
    return next((name.at for name, _ in workflow.node.pairs if name.text in spelled), workflow.node.at)


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, in the order of the files and their lines."""
    order = {name: number for number, name in enumerate(FILES)}
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda p: (order.get(p.file, len(order)), p.line, p.column)))
