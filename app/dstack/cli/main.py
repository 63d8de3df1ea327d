"""The door of the `dstack` command: it runs the one that the words name, of which alone the module is imported.

It turns every ending into an exit code (see EXIT_CODES) and every error into words on standard error.
"""

from __future__ import annotations

import os
import sys

from dstack.cli.commands import COMMANDS, HIDDEN, overview, sentence, split_name

EXIT_CODES = """\
Exit codes
  0    it worked; for `dstack run` and `dstack wait`: the run succeeded and its gate did not fail
  1    an error
  2    the command line is wrong
  3    the run failed, was stopped or was skipped
  4    not signed in, or not allowed
  5    there is no such thing
  6    no server answers
  7    the run succeeded and its gate failed
  124  it took longer than --timeout
  130  Ctrl-C
  141  whoever read the output went away
"""
CLOSED_PIPE = 141  # what a shell reports for a program that SIGPIPE ended; nobody reads any more, so nothing is said


def main(argv: list[str] | None = None) -> int:
    """Run one command and answer its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] in (["--version"], ["-V"]):
        from dstack.version import __version__

        print(f"dstack {__version__}")
        return 0
    return _guarded(words)


def _guarded(words: list[str]) -> int:
    from dstack.errors import DstackError

    try:
        _make_streams_safe()
        code = _dispatch(words)
        sys.stdout.flush()
    except DstackError as error:
        return _say(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", "", 130)
    except BrokenPipeError:
        _close_stdout()
        return CLOSED_PIPE
    except OSError as error:
        name = f": {error.filename}" if error.filename else ""
        return _say(f"{error.strerror or error}{name}", "", 1)
    except ModuleNotFoundError as error:
        return _missing_module(error)
    except Exception as error:
        if os.environ.get("DSTACK_DEBUG"):
            raise
        return _say(f"a fault in dstack itself: {type(error).__name__}: {error}", "DSTACK_DEBUG=1 shows where.", 1)
    return code


def _missing_module(error: ModuleNotFoundError) -> int:
    if os.environ.get("DSTACK_DEBUG") or (error.name or "").split(".")[0].startswith("dstack"):
        raise error
    hint = "Install what serving and running need: pip install 'dstack-ci[server,runner]'"
    return _say(f"this command needs the Python package {error.name!r}, which is not installed", hint, 1)


def _dispatch(words: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:
        from dstack.cli.completion import complete

        complete()
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "help":
        return _help(words[1:])
    name, rest = split_name(words)
    return run_command(name, rest)


def run_command(name: str, rest: list[str]) -> int:
    """Import the command's module, read its arguments and run it."""
    import argparse
    from importlib import import_module

    module_name, help_line = (COMMANDS | HIDDEN)[name]
    module = import_module(f"dstack.cli.{module_name}")
    if hasattr(module, "run_words"):  # reads its words itself: what it accepts depends on the repository
        return int(module.run_words(rest))
    parser = argparse.ArgumentParser(
        prog=f"dstack {name}",
        description=sentence(help_line),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    module.add_arguments(parser)
    takes_rest = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in parser._actions)
    # Intermixed: `artifacts NAME --download DIR PATH` is how people write it.
    args = parser.parse_args(rest) if takes_rest else parser.parse_intermixed_args(rest)
    return int(module.main(args))


def _help(words: list[str]) -> int:
    if words == ["exit-codes"]:
        print(EXIT_CODES, end="")
        return 0
    if not words:
        print(overview())
        return 0
    name, _ = split_name(words)
    return run_command(name, ["--help"])


def _make_streams_safe() -> None:
    """A character that the terminal's encoding does not have must not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _say(message: str, hint: str, code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    try:
        print(f"dstack: {message}", file=sys.stderr)
        if hint:
            print("\n".join(f"  {line}" for line in hint.splitlines()), file=sys.stderr)
    except BrokenPipeError:
        pass  # nobody listens to our errors either
    return code


def _close_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush stays silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
