"""Reads one workflow entry: the common keys, and the options of its provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dstack.language.fields import COMMON, HINTS
from dstack.language.nodes import Node, Scalar, Table
from dstack.language.options import BUILT_IN
from dstack.language.problems import listing, nearest
from dstack.language.quantities import Wrong
from dstack.language.reading import Reading
from dstack.language.records import Field, Record
from dstack.language.shapes import Free
from dstack.language.workflow import ON_EVERY_PUSH, Workflow
from dstack.wire.job import Retry

_COMMON_NAMES = frozenset(f.name for f in COMMON)
_COMMON_WORDS = frozenset(word for f in COMMON for word in f.all_spellings())


def entry_record(provider: str | None) -> Record:
    """The keys an entry may have under a built-in provider; without one, those of all of them, none required."""
    options: dict[str, Field] = {}
    hints = dict(HINTS)
    for name, fields in BUILT_IN.items():
        if provider in (None, name):
            options.update({f.name: f if provider else replace(f, required=False) for f in fields})
        else:
            hints.update({word: f"it is an option of provider: {name}" for f in fields for word in f.all_spellings()})
    return Record((*COMMON, *options.values()), what="a workflow", hints=hints)


def entry_name(node: Node) -> str:
    """The name an entry gives itself, for messages; empty when it gives none."""
    return _scalar(node, "name")


def read_entry(node: Node, reading: Reading, path: str, custom: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """The values of an entry by the names of their keys, options under `options`; None when it cannot be used.

    `custom` names the providers of `.dstack/providers.yaml`.
    """
    before = len(reading.problems)
    provider = _scalar(node, "provider")
    is_free = provider in custom or (isinstance(node, Table) and isinstance(_value(node, "provider"), Table))
    if is_free and isinstance(node, Table):
        values = _read_free(node, reading, path)
    else:
        values = entry_record(provider if provider in BUILT_IN else None).read_values(node, reading, path)
    if isinstance(node, Table):
        _check_provider(node, provider, is_free, reading, path, custom)
    if values is None:
        return None
    if not is_free:
        common = {name: value for name, value in values.items() if name in _COMMON_NAMES}
        options = {name: value for name, value in values.items() if name not in _COMMON_NAMES}
        values = {**common, "options": options}
        if len(reading.problems) == before:
            _check_options(node, options, provider, reading, path)
    return values if len(reading.problems) == before else None


def workflow_of(values: Mapping[str, Any], variables: dict[str, str], node: Table | None) -> Workflow:
    """The workflow of an entry's values."""
    get = values.get
    return Workflow(
        **as_said(values),
        name=values["name"],
        variables=variables,
        resources=get("resources", {}),
        env=get("env", {}),
        timeout=get("timeout"),
        stop_grace=get("stop-grace"),
        triggers=get("on", ON_EVERY_PUSH),
        notify=get("notify"),
        node=node,
    )


def as_said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Attribute -> value of what a run takes over as its workflow says it; a key that is absent has its default."""
    get = values.get
    return {
        "provider": values["provider"],
        "help": get("help", ""),
        "options": get("options", {}),
        "depends_on": get("depends-on", ()),
        "artifacts": get("artifacts", ()),
        "metrics": get("metrics"),
        "report": get("report"),
        "gate": get("gate"),
        "secrets": get("secrets", ()),
        "cache": get("cache", ()),
        "paths": get("paths", ()),
        "tag": get("tag"),
        "retry": get("retry", Retry()),
        "concurrency": get("concurrency"),
    }


def _read_free(node: Table, reading: Reading, path: str) -> dict[str, Any] | None:
    """Under a custom provider, keys that are not common ones are its options, whatever they are."""
    common = Table(tuple(pair for pair in node.pairs if pair[0].text in _COMMON_WORDS), node.at)
    options = Table(tuple(pair for pair in node.pairs if pair[0].text not in _COMMON_WORDS), node.at)
    values = Record(COMMON, what="a workflow").read_values(common, reading, path)
    free = Free().read(options, reading, path)
    return None if values is None else {**values, "options": free}


def _check_provider(
    node: Table, provider: str, is_free: bool, reading: Reading, path: str, custom: tuple[str, ...]
) -> None:
    value = _value(node, "provider")
    if is_free or not isinstance(value, Scalar) or not provider or provider in BUILT_IN:
        return
    known = [*BUILT_IN, *custom]
    said = f'{path}.provider: there is no provider "{provider[:100]}"'
    reading.problem(
        value.at, said, f"one of {listing(known)}, or one defined in .dstack/providers.yaml", nearest(provider, known)
    )


def _check_options(node: Node, options: Mapping[str, Any], provider: str, reading: Reading, path: str) -> None:
    """What keys of one provider mean together."""
    try:
        if provider == "python":
            check_python(options)
    except Wrong as wrong:
        reading.wrong(node, path, "", wrong.suggestion, wrong.message)


def check_python(options: Mapping[str, Any]) -> None:
    """Exactly one of script and module. Raises Wrong."""
    if "script" in options and "module" in options:
        raise Wrong(message='"script" and "module" exclude each other')
    if "script" not in options and "module" not in options:
        raise Wrong("write script: train.py", '"script" (or "module") is missing')


def _value(node: Node, key: str) -> Node | None:
    if not isinstance(node, Table):
        return None
    return next((value for name, value in node.pairs if name.text == key), None)


def _scalar(node: Node, key: str) -> str:
    value = _value(node, key)
    return value.text if isinstance(value, Scalar) and not value.is_nothing else ""
