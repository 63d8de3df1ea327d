"""Checks files without a server: the problems that would fail a push, and the warnings that would not."""

from __future__ import annotations

from collections.abc import Mapping

from dstack.language.problems import Problem
from dstack.language.read_project import read_project


def lint_text(files: Mapping[str, bytes]) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The problems and the warnings of these files (path -> content)."""
    project = read_project(files)
    return project.problems, project.warnings
