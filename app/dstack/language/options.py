"""The options of the built-in providers, beside the common keys; what jobs they make is left to providers/."""

from __future__ import annotations

from dstack.language import words
from dstack.language.kinds import PATH, PYTHON_VERSION
from dstack.language.records import Field
from dstack.language.shapes import Arguments, ListOf, ShellText, Word

_WORKING_DIR = Field("working-dir", PATH, "Folder that commands run in, relative to the repository.")
_SHELL = ListOf(ShellText(), limit=200)

_SCRIPT = Word("a Python file or notebook inside the repository", words.parse_path)

PYTHON = (
    Field(
        "script",
        _SCRIPT,
        "Python file to run, or notebook (x.ipynb; the result is x.executed.ipynb).",
        ("python-script", "file"),
    ),
    Field("module", Word("a Python module", words.parse_plain_module), "Module to run, as `python -m` does."),
    Field("args", Arguments(), "Arguments: one line, split before expressions are filled in, or a list."),
    Field("version", PYTHON_VERSION, "Python version; else the runner's."),
    Field("requirements", ListOf(PATH), "Requirement files, pyproject.toml or uv.lock to install from."),
    Field("before-run", _SHELL, "Shell commands to run first."),
    _WORKING_DIR,
)

BASH = (
    Field("commands", _SHELL, "Shell commands; each is a step of its own and stops at its first error.", required=True),
    _WORKING_DIR,
)

BUILT_IN = {"python": PYTHON, "bash": BASH}
