"""Schema, example and loader say the same: they come from one table of fields, and this holds them together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import dstack.language
from dstack.language import FILES, read_project
from dstack.language.fields import COMMON
from dstack.language.nodes import Items, Node, Scalar, Table
from dstack.language.options import BUILT_IN
from dstack.language.records import Field, Record
from dstack.language.schema import SCHEMA_FILE, schema_text, workflows_schema
from dstack.language.shapes import ByKind, ListOf
from dstack.language.source import read_yaml

EXAMPLE = Path(dstack.language.__file__).with_name("example")
VALIDATOR = jsonschema.Draft7Validator(workflows_schema())


def as_editors_see(node: Node) -> Any:
    """The data a YAML 1.2 reader makes of nodes."""
    if isinstance(node, Table):
        return {key.text: as_editors_see(value) for key, value in node.pairs}
    if isinstance(node, Items):
        return [as_editors_see(item) for item in node.items]
    if node.is_nothing:
        return None
    if not node.quoted and node.text in ("true", "false"):
        return node.text == "true"
    if not node.quoted and re.fullmatch(r"[-+]?\d+", node.text):
        return int(node.text)
    if not node.quoted and re.fullmatch(r"[-+]?\d+\.\d+|[-+]?\d+e[-+]?\d+", node.text):
        return float(node.text)
    return node.text


def editors_accept(text: str) -> bool:
    node, problems = read_yaml("x", text.encode())
    assert node is not None and not problems
    return bool(VALIDATOR.is_valid(as_editors_see(node)))


def example_files() -> dict[str, bytes]:
    return {f".dstack/{path.name}": path.read_bytes() for path in EXAMPLE.iterdir()}


def test_the_shipped_schema_is_the_one_the_fields_make() -> None:
    again = "run: python -m dstack.language.schema > app/dstack/language/workflows.schema.json"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), again


def test_the_schema_is_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(workflows_schema())
    assert workflows_schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_the_example_has_no_problem_and_editors_accept_it() -> None:
    assert set(example_files()) == set(FILES)
    assert read_project(example_files()).problems == ()
    assert editors_accept((EXAMPLE / "workflows.yaml").read_text(encoding="utf-8"))


def test_every_known_key_stands_in_the_example() -> None:
    root, _ = read_yaml("x", (EXAMPLE / "workflows.yaml").read_bytes())
    written = keys_of(root)
    every = [*COMMON, *(f for fields in BUILT_IN.values() for f in fields)]
    known = {name for f in every for name in fields_of(f)}
    assert {name for name in known if name not in written and name.replace("-", "_") not in written} == set()


def keys_of(node: Node | None) -> set[str]:
    if isinstance(node, Table):
        return {key.text for key, _ in node.pairs}.union(*(keys_of(value) for _, value in node.pairs))
    return set().union(*(keys_of(item) for item in node.items)) if isinstance(node, Items) else set()


def fields_of(one: Field) -> set[str]:
    return {one.name}.union(*(fields_of(inner) for inner in inner_fields(one.shape)))


def inner_fields(shape: object) -> tuple[Field, ...]:
    if isinstance(shape, Record):
        return shape.fields
    if isinstance(shape, ListOf):
        return inner_fields(shape.item)
    if isinstance(shape, ByKind):
        return inner_fields(shape.table) + inner_fields(shape.items)
    return ()


ENTRY = "workflows:\n  - name: a\n    provider: bash\n    commands: ls\n"


@pytest.mark.parametrize(
    "key",
    [
        "artefacts: [x]", "timeout: 10", "timeout: soon", "resources: {gpu: -1}", "resources: {gpu: 2000}",
        "resources: {memory: 16}", "resources: {gpus: 1}", "retry: 11", "retry: {on: [sometimes]}", "on: {psuh: {}}",
        "on: sometimes", "artifacts: {when: always}", "metrics: {better: more}", "tag: a/b", "script: x.py",
        "env: [A]", "env: {A: [x]}", "concurrency: {group: x, cancel-running: 1}", "depends-on: {form: x}",
    ],
)  # fmt: skip
def test_what_the_schema_refuses_the_loader_refuses(key: str) -> None:
    text = f"{ENTRY}    {key}\n"
    assert not editors_accept(text)
    assert read_project({FILES[0]: text.encode()}).problems


@pytest.mark.parametrize(
    "key",
    [
        "artifacts: x", "artifacts: [x, {path: y, when: always}]", "timeout: 1h30m", "timeout: ${{ sha }}", "tag: v1",
        "resources: {gpu: 1}", "resources: {gpu: 'A100:2'}", "resources: {gpu: {name: T4}, memory: 16GB, labels: a}",
        "retry: 3", "retry: {on: preempted, limit: 1}", "on: push", "on: [push, pull_request]", "on: {push: }",
        "on: {push: {branches: main}}", "on: {schedule: 0 3 * * 1}", "on: manual", "env: {A: 1, B: true, C: 1.5, D: x}",
        "metrics: metrics.json", "concurrency: train", "depends-on: a:latest", "working_dir: x", "environment: {A: b}",
    ],
)  # fmt: skip
def test_what_the_loader_takes_editors_accept(key: str) -> None:
    text = f"{ENTRY}    {key}\n"
    problems = read_project({FILES[0]: text.encode()}).problems
    if "${{ sha }}" not in key:  # a commit is no time, which only the loader can know
        assert not problems, problems
    assert editors_accept(text), list(VALIDATOR.iter_errors(text))


def test_scalars_are_told_from_text() -> None:
    at = Scalar("x", read_yaml("x", b"a")[0].at)  # type: ignore[union-attr]
    assert not at.is_nothing and Scalar("null", at.at).is_nothing and not Scalar("null", at.at, quoted=True).is_nothing
