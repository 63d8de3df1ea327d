"""The OpenAPI description, made from the same operations and pydantic models that answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from dstack.server.web.access import Audience
from dstack.server.web.operation import Operation
from dstack.version import __version__
from dstack.wire.api import Problem
from dstack.wire.codec import adapter

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def describe(operations: Sequence[Operation], url: str) -> dict[str, Any]:
    """An OpenAPI 3.1 document of the client and runner API."""
    kinds = {str(kind): kind for o in operations for kind in (o.takes, o.gives, Problem) if kind is not None}
    schemas, definitions = _schemas(list(kinds.values()))
    paths: dict[str, Any] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dstack", "version": __version__, "description": "Git-native CI/CD for training models."},
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(kinds: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs: list[tuple[Any, Literal["validation"], TypeAdapter[Any]]]
    inputs = [(str(kind), "validation", adapter(kind)) for kind in kinds]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return {str(kind): found[str(kind), "validation"] for kind in kinds}, shared.get("$defs", {})


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": (operation.handler.__doc__ or "").strip().split("\n")[0],
        "parameters": [
            *(_parameter(name, "path") for name in _PARAMETER.findall(operation.path)),
            *(_parameter(name, "query") for name in operation.queries),
        ],
        "responses": {
            str(_status(operation)): _answer(operation, schemas),
            "default": {"description": "What is wrong.", "content": _json(schemas[str(Problem)])},
        },
    }
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _json(schemas[str(operation.takes)])}
    if operation.audience is not Audience.ANYONE:
        described["security"] = [{"token": []}]
    return described


def _status(operation: Operation) -> int:
    """Handlers that give nothing and take a message answer 204; those that stream answer 200."""
    if operation.gives is not None:
        return operation.status
    return 204 if operation.takes is not None or operation.status == 204 else 200


def _answer(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    if operation.gives is None:
        return {"description": "Done, or the bytes asked for."}
    return {"description": "The answer.", "content": _json(schemas[str(operation.gives)])}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _parameter(name: str, where: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string"}}
