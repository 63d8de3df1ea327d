"""What the files of `.dstack/` of one commit say, and which files those are. Reading them is `read_project`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dstack.errors import ConfigProblems
from dstack.language.problems import Problem, listing, nearest
from dstack.language.workflow import ProviderDefinition, Workflow

WORKFLOWS = ".dstack/workflows.yaml"
VARIABLES = ".dstack/variables.yaml"
PROVIDERS = ".dstack/providers.yaml"
FILES = (WORKFLOWS, VARIABLES, PROVIDERS)


@dataclass(frozen=True, slots=True)
class Project:
    """What a commit says. With `problems` nothing of it should start; `workflows` are then only those without any.

    `variables` are the sections of the variables file as written, `providers` the custom ones. A repository without
    these files is a project of nothing, which is no problem.
    """

    workflows: dict[str, Workflow] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    providers: dict[str, ProviderDefinition] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def is_ok(self) -> bool:
        return not self.problems

    def workflow(self, name: str) -> Workflow:
        """One workflow by its name. Raises ConfigProblems with the names there are."""
        if name not in self.workflows:
            known = listing(self.workflows) or "none"
            raise ConfigProblems(
                f'there is no workflow "{name}"', nearest(name, self.workflows) or f"there are: {known}"
            )
        return self.workflows[name]
