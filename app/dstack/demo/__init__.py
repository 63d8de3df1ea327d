"""The sample training repository that `dstack demo` makes: the files under `project/`, put where they belong."""

from __future__ import annotations

from pathlib import Path

_PROJECT = Path(__file__).with_name("project")
_CONFIGURATION = ("workflows.yaml", "variables.yaml")


def write_project(folder: Path) -> None:
    """Write the files of the sample into `folder`."""
    (folder / ".dstack").mkdir(parents=True, exist_ok=True)
    for source in sorted(_PROJECT.iterdir()):
        if source.is_file():
            target = folder / ".dstack" / source.name if source.name in _CONFIGURATION else folder / source.name
            target.write_bytes(source.read_bytes())


def use_the_tag(folder: Path, epochs: int) -> None:
    """The second commit's change: depend on the tagged data instead of preparing it again, and train for longer."""
    workflows = folder / ".dstack" / "workflows.yaml"
    text = workflows.read_text()
    text = text.replace("depends-on: [prepare] # runs it first, and finds its", "depends-on: [prepare:latest] # the")
    text = text.replace("depends-on: [prepare, train]", "depends-on: [prepare:latest, train]")
    workflows.write_text(text.replace("# the data/ here", "# its data/, as tagged"))
    variables = folder / ".dstack" / "variables.yaml"
    variables.write_text(variables.read_text().replace("epochs: 8", f"epochs: {epochs}"))
