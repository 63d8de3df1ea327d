"""Reads `.dstack/variables.yaml`: defaults for all workflows under `global`, and for one under its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dstack.language.nodes import Node, Place, Scalar, Table, quote
from dstack.language.problems import listing, nearest
from dstack.language.quantities import Wrong
from dstack.language.reading import Reading
from dstack.language.shapes import MAX_TEXT
from dstack.language.templates import CONTEXT_NAMES, env_name, holes
from dstack.language.words import parse_variable

GLOBAL = "global"
MAX_VARIABLES = 200


@dataclass
class Section:
    """The variables of one section, as written, and where each stands."""

    at: Place
    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)


def read_variables(root: Node, reading: Reading) -> dict[str, Section]:
    """The sections of the file by name."""
    sections: dict[str, Section] = {}
    if not isinstance(root, Table):
        reading.wrong(root, "variables.yaml", "a mapping with the key variables")
        return sections
    for key, value in root.pairs:
        if key.text == "variables":
            sections = _read_sections(value, reading)
        elif key.text != "version":
            hint = nearest(key.text, ["variables", "version"]) or "put it under variables:"
            reading.problem(key.at, f"unknown key {quote(key.text)}", "variables", hint)
    return sections


def _read_sections(node: Node, reading: Reading) -> dict[str, Section]:
    if isinstance(node, Scalar) and node.is_nothing:
        return {}
    if not isinstance(node, Table):
        reading.wrong(node, "variables", "a mapping: global, or a workflow's name, to its variables")
        return {}
    return {key.text: _read_section(key, value, reading) for key, value in node.pairs}


def _read_section(name: Scalar, node: Node, reading: Reading) -> Section:
    section = Section(name.at)
    path = f"variables.{name.text}"
    if isinstance(node, Scalar) and node.is_nothing:
        return section
    if not isinstance(node, Table) or len(node.pairs) > MAX_VARIABLES:
        hint = f"put it under a section: {GLOBAL}: {{{name.text}: ...}}" if isinstance(node, Scalar) else ""
        reading.wrong(node, path, f"a mapping of at most {MAX_VARIABLES} variables to values", hint)
        return section
    spelled: dict[str, str] = {}
    for key, value in node.pairs:
        _read_variable(key, value, section, spelled, reading, path)
    return section


def _read_variable(
    key: Scalar, value: Node, section: Section, spelled: dict[str, str], reading: Reading, path: str
) -> None:
    try:
        parse_variable(key.text)
    except Wrong as wrong:
        said = wrong.message or f"found {quote(key.text)}"
        reading.problem(key.at, f"{path}: {said}", "" if wrong.message else "a name of letters, digits, _ and -")
        return
    if env_name(key.text) in spelled:
        first = spelled[env_name(key.text)]
        reading.problem(
            key.at, f'{path}: "{key.text}" and "{first}" both reach jobs as {env_name(key.text)}', "one of them"
        )
        return
    if not isinstance(value, Scalar) or value.is_nothing or len(value.text) > MAX_TEXT or "\0" in value.text:
        reading.wrong(value, f"{path}.{key.text}", f"one value, at most {MAX_TEXT:,} characters")
        return
    spelled[env_name(key.text)] = key.text
    section.values[key.text] = value.text
    section.places[key.text] = value.at


def variables_of(sections: Mapping[str, Section], workflow: str) -> dict[str, str]:
    """The defaults a workflow has: its own over the global ones, in the spelling of the own."""
    own = sections[workflow].values if workflow in sections and workflow != GLOBAL else {}
    hidden = {env_name(name) for name in own}
    common = sections[GLOBAL].values if GLOBAL in sections else {}
    return {**{name: value for name, value in common.items() if env_name(name) not in hidden}, **own}


def check_references(sections: Mapping[str, Section], reading: Reading) -> None:
    """Variables that name others: those must exist for the workflow. Loops are found when they are expanded."""
    for name, section in sections.items():
        known = {env_name(variable): variable for variable in variables_of(sections, name)}
        for variable, text in section.values.items():
            at = section.places[variable]
            for hole in holes(text):
                if hole.name not in CONTEXT_NAMES and env_name(hole.name) not in known:
                    names = [*known.values(), *CONTEXT_NAMES]
                    said = f"variables.{name}.{variable}: there is no variable {quote(hole.name or hole.written)}"
                    reading.problem(at, said, "one of " + listing(names), nearest(hole.name, names))
                elif hole.name == "attempt":
                    reading.problem(at, f"variables.{name}.{variable}: the attempt is not known yet", "another name")
