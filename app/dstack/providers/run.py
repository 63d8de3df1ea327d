"""`python -m dstack.providers.run MODULE[:CLASS]`: runs a custom provider where its job runs; standard library only.

Reads the workflow as JSON from $DSTACK_WORKFLOW_JSON (else standard input), writes the job list to the file
$DSTACK_OUTPUT (else standard output). Exit code 2 when there is no such provider, 1 when it refuses the workflow.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TextIO

from dstack.errors import DstackError, Invalid, Usage
from dstack.providers.base import Provider
from dstack.providers.exchange import OUTPUT_ENV, WORKFLOW_ENV, dump_jobs, load_workflow


def find_provider(name: str) -> Provider:
    """The provider `module:Class`, or the only one a module defines. Raises Usage."""
    module_name, _, class_name = name.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise Usage(
            f"cannot import {module_name}: {error}", "name a module of the repository or of its requirements"
        ) from None
    kinds = {
        kind.__name__: kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Provider) and kind is not Provider
    }
    own = [kind for kind in kinds.values() if kind.__module__ == module.__name__]
    if class_name and class_name in kinds:
        return kinds[class_name]()
    if not class_name and len(own) == 1:
        return own[0]()
    there = ", ".join(sorted(kinds)) or "none"
    raise Usage(
        f"{name}: no provider to take; {module_name} has: {there}",
        "write module:Class; it derives from dstack.Provider",
    )


def provide(argv: Sequence[str], environ: Mapping[str, str], stdin: TextIO, stdout: TextIO) -> None:
    """Run one provider. Raises Usage and Invalid."""
    if len(argv) != 1:
        raise Usage("one provider is needed: python -m dstack.providers.run MODULE[:CLASS]")
    provider = find_provider(argv[0])
    try:
        workflow = load_workflow(environ.get(WORKFLOW_ENV) or stdin.read())
        text = dump_jobs(provider.jobs(workflow))
    except (ValueError, NotImplementedError) as error:
        raise Invalid(f"{argv[0]}: {error}") from error
    if environ.get(OUTPUT_ENV):
        Path(environ[OUTPUT_ENV]).write_text(text, encoding="utf-8")
    else:
        stdout.write(text + "\n")


def main() -> int:
    """The command: problems go to standard error, without a traceback."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        provide(sys.argv[1:], os.environ, sys.stdin, sys.stdout)
    except DstackError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
