"""The JSON Schema of workflows.yaml for editors, made from the same fields the loader checks with.

Draft 7, which editors' YAML servers read. `python -m dstack.language.schema` prints it; the file beside this module
ships with the package. A schema cannot know variables, graphs and patterns: `dstack lint` is the whole check.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dstack.language.entries import entry_record
from dstack.language.fields import COMMON
from dstack.language.options import BUILT_IN
from dstack.language.read_project import MAX_WORKFLOWS
from dstack.language.records import properties
from dstack.language.shapes import Json

SCHEMA_FILE = Path(__file__).with_name("workflows.schema.json")


def workflows_schema() -> Json:
    """The schema of the whole file."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:dstack-ci:schema:v1:workflows",
        "title": "dstack workflows",
        "description": "The workflows of a repository, .dstack/workflows.yaml",
        "type": "object",
        "required": ["workflows"],
        "additionalProperties": False,
        "properties": {
            "version": {"enum": [1, "1"]},
            "workflows": {"type": "array", "maxItems": MAX_WORKFLOWS, "items": {"$ref": "#/definitions/workflow"}},
        },
        "definitions": {"workflow": _entry(), **{name: _entry_of(name) for name in BUILT_IN}},
    }


def _entry() -> Json:
    """Any entry; those of built-in providers have no keys but the known ones."""
    return {
        "type": "object",
        "required": [f.name for f in COMMON if f.required],
        "properties": properties(COMMON),
        "allOf": [
            {"if": {"properties": {"provider": {"const": name}}}, "then": {"$ref": f"#/definitions/{name}"}}
            for name in BUILT_IN
        ],
    }


def _entry_of(provider: str) -> Json:
    """Common keys were described once already: here they are only allowed."""
    record = entry_record(provider)
    common = {word: True for f in COMMON for word in f.all_spellings()}
    required = [f.name for f in BUILT_IN[provider] if f.required]
    options = {**properties(record.fields), **common}
    result: Json = {"properties": options, "additionalProperties": False}
    return {**result, "required": required} if required else result


def schema_text() -> str:
    """The schema as the shipped file holds it."""
    return json.dumps(workflows_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
