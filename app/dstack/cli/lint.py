"""`dstack lint`: checks the files under `.dstack/` without a server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dstack.cli import output
from dstack.language import FILES, Problem, lint_text
from dstack.language.schema import SCHEMA_FILE

MAX_FILE = 1024 * 1024 + 1  # one byte more than the language reads: it says itself what is too large


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=".", help="the repository, or a folder in it (default: this one)")
    parser.add_argument("--format", choices=("text", "json", "github"), default="text", help="how problems are printed")
    parser.add_argument("--strict", action="store_true", help="take warnings for problems")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of workflows.yaml, for editors")
    output.add_json(parser)


def main(args: argparse.Namespace) -> int:
    if args.schema:
        print(SCHEMA_FILE.read_text(encoding="utf-8"), end="")
        return 0
    files, unreadable = read_working_tree(find_root(Path(args.folder)))
    problems, warnings = lint_text(files)
    problems = (*unreadable, *problems)
    style = "json" if args.json else args.format
    if style == "json":
        output.print_json([*map(_as_data, problems), *(_as_data(warning, "warning") for warning in warnings)])
    elif style == "github":
        for line in github_lines(problems, warnings):
            print(line)
    else:
        _print_text(files, problems, warnings)
    return 1 if problems or (args.strict and warnings) else 0


def find_root(folder: Path) -> Path:
    """The folder at or above this one that has a `.dstack`; the folder itself where none has."""
    start = folder.absolute()
    return next((place for place in (start, *start.parents) if (place / ".dstack").is_dir()), start)


def read_working_tree(root: Path) -> tuple[dict[str, bytes], tuple[Problem, ...]]:
    """The files of `.dstack/` as they lie there, and those that are none: a link could lead anywhere."""
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    for name in (*FILES, *(file.removesuffix("yaml") + "yml" for file in FILES)):
        path = root / name
        if path.is_symlink() or path.parent.is_symlink():
            problems.append(Problem(name, 0, 0, "it is a symbolic link", "a file", "put the text here"))
        elif path.is_file():
            with path.open("rb") as file:
                files[name] = file.read(MAX_FILE)
        elif path.exists():
            problems.append(Problem(name, 0, 0, "it is no file", "a file"))
    return files, tuple(problems)


def _print_text(files: dict[str, bytes], problems: Sequence[Problem], warnings: Sequence[Problem]) -> None:
    for problem in problems:
        print(problem)
    for warning in warnings:
        print(f"{warning} (warning)")
    if problems:
        print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")
    elif FILES[0] in files:
        print("no problems")
    else:
        print(f"there is no {FILES[0]}; `dstack init` writes one")


def _as_data(problem: Problem, level: str = "error") -> dict[str, object]:
    return {
        "level": level,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "expected": problem.expected,
        "suggestion": problem.suggestion,
    }


def github_lines(problems: Sequence[Problem], warnings: Sequence[Problem]) -> list[str]:
    """Workflow commands that GitHub shows beside the lines of the files."""
    levels = [("error", problem) for problem in problems] + [("warning", warning) for warning in warnings]
    return [
        f"::{level} file={_escape(p.file, ':,')},line={max(p.line, 1)},col={max(p.column, 1)}::"
        + _escape(
            "; ".join(part for part in (p.message, p.expected and f"expected {p.expected}", p.suggestion) if part)
        )
        for level, p in levels
    ]


def _escape(text: str, more: str = "") -> str:
    """Percent-encodes what would end a command's line or property."""
    return "".join(f"%{ord(char):02X}" if char in "%\r\n" + more else char for char in text)
