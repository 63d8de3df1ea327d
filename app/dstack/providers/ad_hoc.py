"""A workflow without an entry: `dstack run python train.py --epochs 3 -r requirements.txt -a model --gpu 1 -e K=V`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dstack.errors import ConfigProblems
from dstack.language.entries import read_entry, workflow_of
from dstack.language.nodes import Table, from_data
from dstack.language.options import BUILT_IN
from dstack.language.problems import listing, nearest, refuse
from dstack.language.read_project import EXAMPLE_CONTEXT
from dstack.language.reading import Reading
from dstack.language.workflow import Triggers, Workflow

_RESOURCES = ("gpu", "cpu", "memory", "labels")


def ad_hoc(provider: str, options: Mapping[str, object], custom: Collection[str] = ()) -> Workflow:
    """The workflow of a provider and its options: the keys of an entry, and `gpu`, `cpu`, `memory`, `labels`.

    It is named like the provider, has no variables and never starts by itself. `custom` names the providers of
    `.dstack/providers.yaml`. Raises ConfigProblems with every problem.
    """
    known = [*BUILT_IN, *custom]
    if provider not in known:
        hint = nearest(provider, known) or f"there are: {listing(known)}"
        raise ConfigProblems(f'there is no workflow and no provider "{provider[:100]}"', hint)
    entry = {**_with_resources(options), "name": provider, "provider": provider}
    try:
        node = from_data(entry, f"dstack run {provider}")
    except TypeError as error:
        raise ConfigProblems(f"dstack run {provider}: {error}") from None
    assert isinstance(node, Table)
    as_written, trial = Reading(), Reading(values=EXAMPLE_CONTEXT)
    values = read_entry(node, as_written, provider, tuple(custom))
    refuse(as_written.problems)
    read_entry(node, trial, provider, tuple(custom))
    refuse(trial.problems)
    assert values is not None
    return workflow_of({**values, "on": Triggers()}, {}, node)


def _with_resources(options: Mapping[str, object]) -> dict[str, object]:
    """The options with those of a machine put under `resources`, and empty ones left out."""
    given = {key: value for key, value in options.items() if value is not None}
    inner = given.pop("resources", {})
    flat = {key: given.pop(key) for key in _RESOURCES if key in given}
    if isinstance(inner, Mapping) and (inner or flat):
        given["resources"] = {**inner, **flat}
    return given
