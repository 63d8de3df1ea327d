"""GitHub's own description of its API, where it lies beside the checkout: holds requests and answers against it.

Without the file nothing is checked. The description is OpenAPI 3.0; what JSON Schema says otherwise is translated.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from fake_github.routing import Op, Route, Unprocessable
from fake_github.state import Json

ROOT = Path(__file__).parents[3]
FILE = ROOT.parent / "shared" / "github" / "openapi-subset.json"
_URI = "urn:github"
# Where the description errs about GitHub's answers: an account need not be a user and an enterprise at once, and a
# deleted fork leaves no repository behind.
_MISTAKEN = re.compile(r"\$(\[\d+\])?\.account|\$(\[\d+\])?\.head\.repo")


class Description:
    """Checks by operation; `present` says whether there is anything to check against."""

    def __init__(self, file: Path = FILE) -> None:
        self.present = file.is_file()
        self._loaded = _load(file) if self.present else {}
        self._registry = _registry(file) if self.present else None

    def operation(self, route: Route) -> Json | None:
        found = self._loaded.get("paths", {}).get(route.template, {}).get(route.method.lower())
        return found if isinstance(found, dict) else None

    def check_request(self, route: Route, op: Op) -> list[str]:
        """What is wrong with a call: each a sentence. Raises Unprocessable for a body GitHub would refuse."""
        operation = self.operation(route)
        if operation is None:
            return []
        where = f"{route.method} {route.template}"
        wrong = self._parameters(operation, op, where)
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return wrong + ([f"{where}: a body where none is described"] if op.body is not None else [])
        if op.body is None and not operation["requestBody"].get("required"):
            return wrong
        errors = [f"{where}: {text}" for text in self._errors(content["schema"], op.body)]
        if errors:
            raise _Bad(wrong + errors)
        known = content["schema"].get("properties")
        if known and isinstance(op.body, dict):
            wrong += [f"{where}: unknown field {name!r}" for name in op.body if name not in known]
        return wrong

    def _parameters(self, operation: Json, op: Op, where: str) -> list[str]:
        described = [self._resolve(given) for given in operation.get("parameters", [])]
        queries = {p["name"]: p.get("schema", {}) for p in described if p["in"] == "query"}
        wrong = [f"{where}: unknown parameter {name!r}" for name in op.query if name not in queries]
        for parameter in described:
            name, place = parameter["name"], {"query": op.query, "path": op.params}.get(parameter["in"], {})
            if name in place:
                value = _typed(place[name], parameter.get("schema", {}))
                wrong += [f"{where}: {name}: {text}" for text in self._errors(parameter.get("schema", {}), value)]
        return wrong

    def check_answer(self, route: Route, status: int, body: Any) -> list[str]:
        """What is wrong with the fake's own answer."""
        operation = self.operation(route)
        if operation is None or str(status) not in operation["responses"]:
            return [] if operation is None or status >= 400 else [f"{route.template}: {status} is not described"]
        answer = self._resolve(operation["responses"][str(status)])
        content = answer.get("content", {}).get("application/json")
        found = self._errors(content["schema"], body) if content else []
        return [f"{route.method} {route.template}: {text}" for text in found if not _MISTAKEN.match(text)]

    def _resolve(self, given: Json) -> Json:
        found: Any = given
        while "$ref" in found:
            place = self._loaded
            for step in found["$ref"].removeprefix(_URI).removeprefix("#/").split("/"):
                place = place[step]
            found = place
        return dict(found)

    def _errors(self, schema: Json, value: Any) -> list[str]:
        from jsonschema import Draft202012Validator

        validator = Draft202012Validator(schema, registry=self._registry)
        return [_told(error) for error in validator.iter_errors(value)]


def _told(error: Any) -> str:
    """The error and, of alternatives, the one that came closest."""
    from jsonschema.exceptions import best_match

    closest = best_match([error]) if error.context else error
    return f"{closest.json_path}: {closest.message[:300]}"


class _Bad(Unprocessable):
    def __init__(self, wrong: list[str]) -> None:
        super().__init__("Invalid request.\n\n" + "\n".join(wrong))
        self.wrong = wrong


def _typed(text: str, schema: Json) -> Any:
    if schema.get("type") == "integer" and text.lstrip("-").isdigit():
        return int(text)
    if schema.get("type") == "boolean" and text in ("true", "false"):
        return text == "true"
    return text


@functools.cache
def _load(file: Path) -> Json:
    loaded: Json = _translated(json.loads(file.read_text()))
    return loaded


@functools.cache
def _registry(file: Path) -> Any:
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012

    return Registry().with_resource(_URI, Resource.from_contents(_load(file), default_specification=DRAFT202012))


def _translated(node: Any) -> Any:
    """OpenAPI 3.0 to JSON Schema: `nullable`, and references that do not depend on where they stand."""
    if isinstance(node, list):
        return [_translated(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _translated(value) for key, value in node.items()}
    reference = made.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        made["$ref"] = _URI + reference
    if made.pop("nullable", False) is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made
