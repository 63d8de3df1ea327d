"""Reads `.dstack/providers.yaml`: the custom providers a repository defines."""

from __future__ import annotations

from typing import Any

from dstack.language import words
from dstack.language.kinds import NAME, PATH, PYTHON_VERSION, fixed
from dstack.language.nodes import Node
from dstack.language.options import BUILT_IN
from dstack.language.quantities import Wrong
from dstack.language.reading import Reading
from dstack.language.records import Field, Record
from dstack.language.shapes import ListOf
from dstack.language.workflow import ProviderDefinition


def _definition(values: dict[str, Any]) -> ProviderDefinition:
    if values["name"] in BUILT_IN:
        raise Wrong("choose another name", f'"{values["name"]}" is built in')
    if ("commands" in values) == ("module" in values):
        raise Wrong("write module: package.module:Class", "a provider has either commands or a module")
    return ProviderDefinition(**values)


_DEFINITION = Record(
    (
        Field("name", NAME, "Name that workflows give as provider:.", required=True),
        Field(
            "commands", ListOf(fixed("a shell command")), "Shell commands that write the job list to $DSTACK_OUTPUT."
        ),
        Field(
            "module",
            fixed("a module, or module:Class", words.parse_module),
            "Python module with a dstack.Provider in it.",
        ),
        Field("requirements", ListOf(PATH), "Requirement files of its environment."),
        Field("version", PYTHON_VERSION, "Python version of its environment."),
    ),
    build=_definition,
    what="a provider",
)

PROVIDERS_FILE = Record(
    (
        Field("version", fixed("1", words.one_of(["1"])), "Version of the file's format."),
        Field("providers", ListOf(_DEFINITION, lone=False), "The providers of this repository."),
    ),
    what="the file",
)


def read_definitions(root: Node, reading: Reading) -> dict[str, ProviderDefinition]:
    """The providers by name."""
    values = PROVIDERS_FILE.read(root, reading, "providers.yaml") or {}
    result: dict[str, ProviderDefinition] = {}
    for definition in values.get("providers", ()):
        if definition.name in result:
            reading.wrong(root, "providers", "each name once", message=f'"{definition.name}" stands twice')
        result[definition.name] = definition
    return result
