"""JSON to wire dataclasses and back, by pydantic: the server and the runner read through here, the CLI reads dicts."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from dstack.errors import Invalid, Malformed

T = TypeVar("T")


_adapters: dict[object, TypeAdapter[Any]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """The validator and serializer of a message class, built once."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def decode(kind: type[T], data: bytes | str) -> T:
    """Read one message. Unknown keys are ignored (a newer peer may send more). Raises Malformed or Invalid."""
    try:
        return adapter(kind).validate_json(data)
    except ValidationError as error:
        raise _refusal(kind, error) from None


def from_dict(kind: type[T], data: object) -> T:
    """The same for data already parsed."""
    try:
        return adapter(kind).validate_python(data)
    except ValidationError as error:
        raise _refusal(kind, error) from None


def encode(message: object) -> bytes:
    """One message as JSON."""
    return adapter(type(message)).dump_json(message)


def to_dict(message: object) -> dict[str, object]:
    """One message as JSON-ready data."""
    data = adapter(type(message)).dump_python(message, mode="json")
    assert isinstance(data, dict)
    return data


def _refusal(kind: type[object], error: ValidationError) -> Invalid | Malformed:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Malformed(f"the body is not JSON: {first['msg']}")
    where = ".".join(str(part) for part in first["loc"]) or "body"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return Invalid(f"{kind.__name__}: {where}: {first['msg']}{more}")
