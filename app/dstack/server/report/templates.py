"""Fills the Markdown templates that ship with dstack. What comes from elsewhere is made harmless before it is given."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def fill(name: str, **values: object) -> str:
    """A template of `templates/checks` or `templates/comments`; an unknown name in it is an error."""
    return _environment().get_template(name).render(**values).strip() + "\n"


@cache
def _environment() -> Environment:
    package = Path(__file__).parents[2]
    installed = package / "templates"
    folder = installed if installed.is_dir() else package.parent.parent / "templates"
    return Environment(  # Markdown, not HTML: nothing to escape
        loader=FileSystemLoader([folder / "checks", folder / "comments"]),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
