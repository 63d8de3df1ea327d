"""One reading of one file: collects problems and fills in `${{ }}`; what is read is the shapes' business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dstack.language.nodes import Node, Place, Scalar, found, quote
from dstack.language.problems import Problem, listing, nearest
from dstack.language.quantities import Wrong
from dstack.language.shelltext import reference_name, to_references
from dstack.language.templates import ATTEMPT, ATTEMPT_ENV, CONTEXT_NAMES, Hole, env_name, fill, holes

DECLARE = "declare it in .dstack/variables.yaml"


@dataclass
class Reading:
    """`variables` are the names that expressions may use (each under its `env_name`), `context` the others, `values`
    what names are worth; None keeps expressions as written (a file is being checked, no run is being made).

    `shell_env` collects the environment that the shell text read so far refers to.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] | None = None
    problems: list[Problem] = field(default_factory=list)
    context: tuple[str, ...] = CONTEXT_NAMES
    shell_env: dict[str, str] = field(default_factory=dict)

    def problem(self, at: Place, message: str, expected: str = "", suggestion: str = "") -> None:
        self.problems.append(Problem(at.file, at.line, at.column, message, expected, suggestion))

    def wrong(self, node: Node, path: str, expected: str, suggestion: str = "", message: str = "") -> None:
        """Something else stands where `expected` should."""
        self.problem(node.at, f"{path}: {message or found(node)}", expected, suggestion)

    def filled(self, node: Scalar, path: str, *, attempt: bool) -> str | None:
        """The text with its expressions filled in, literally; None when a name is unknown (already reported).

        `attempt` stays as written for `fill_attempt`, where it is allowed.
        """
        if not self._names_are_known(node, path, attempt=attempt):
            return None
        return node.text if self.values is None else fill(node.text, self._value)

    def shell(self, node: Scalar, path: str) -> str | None:
        """Shell text with expressions turned into references; their values go to `shell_env`."""
        if not self._names_are_known(node, path, attempt=True):
            return None
        try:
            text = to_references(node.text)
        except Wrong as wrong:
            self.problem(node.at, f"{path}: {wrong.message}", suggestion=wrong.suggestion)
            return None
        if self.values is None:
            return node.text
        for hole in holes(node.text):
            if hole.name != ATTEMPT:
                self.shell_env[reference_name(hole.name)] = self._value(hole)
        return text

    def _value(self, hole: Hole) -> str:
        assert self.values is not None
        if hole.name == ATTEMPT:
            return hole.written
        return self.values[hole.name if hole.name in CONTEXT_NAMES else env_name(hole.name)]

    def _names_are_known(self, node: Scalar, path: str, *, attempt: bool) -> bool:
        before = len(self.problems)
        for hole in holes(node.text):
            if not hole.name:
                said = f"{path}: cannot read {quote(hole.written[:60])}"
                self.problem(node.at, said, "${{ name }}", "" if "}}" in hole.written else "close it with }}")
            elif hole.name == ATTEMPT and not attempt:
                said = f"{path}: the attempt is known only when a machine takes the job"
                self.problem(node.at, said, suggestion=f"use it in args, env or commands, or read ${ATTEMPT_ENV} there")
            elif hole.name not in self.context and env_name(hole.name) not in self.variables:
                known = sorted([*self.variables.values(), *self.context])
                said = f'{path}: there is no variable "{hole.name}"'
                declare = DECLARE if self.context == CONTEXT_NAMES else ""  # a job list has no variables
                self.problem(node.at, said, "one of " + listing(known), nearest(hole.name, known) or declare)
        return len(self.problems) == before
