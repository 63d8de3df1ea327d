"""The table of the commands of `dstack`: their names, what each is for, and the module that does it."""

from __future__ import annotations

# What is listed first is what a newcomer needs first. A name of two words is a command of its own module.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "show the whole loop on this machine: push, train, tag, push again"),
    "init": ("init", "write a starter .dstack/ into this repository and add the server as a remote"),
    "run": ("run", "run a workflow, or a provider, on the working tree as it is"),
    "runs": ("runs", "list runs, or show one"),
    "logs": ("logs", "print the log of a run"),
    "wait": ("wait", "block until a run ends"),
    "stop": ("stop", "stop a run"),
    "approve": ("approve", "let the runs of a fork's pull request begin"),
    "restart": ("restart", "run a run again, at the same commit with the same variables"),
    "artifacts": ("artifacts", "list or download what a run has saved"),
    "tags": ("tags", "list tags"),
    "tag": ("tag", "put a tag on a run"),
    "untag": ("untag", "remove a tag"),
    "lint": ("lint", "check the files under .dstack/ without a server"),
    "plan": ("plan", "say which runs an event would start, and why not the others"),
    "secrets": ("secrets", "list, set and delete the secrets of a repo"),
    "repos": ("repos", "list the repos of the server, or add one"),
    "event": ("event", "say that something happened, and start the workflows that wait for it"),
    "github connect": ("github", "make a GitHub App for the server, and connect it"),
    "github doctor": ("github", "look at both sides of the connection to GitHub, and say what to mend"),
    "github disconnect": ("github", "forget the GitHub App"),
    "runners": ("runners", "list runners, or remove one"),
    "deliveries": ("deliveries", "list the events that came in and what each did, or replay one"),
    "users": ("users", "list, add and remove users, and renew their tokens"),
    "server": ("server", "serve on this machine, with one runner beside it"),
    "server start": ("local_server", "start a server of your own in the background"),
    "server status": ("local_server", "say where the server started in the background is"),
    "server stop": ("local_server", "stop the server started in the background"),
    "server link": ("link", "print a link that signs you in on the server's pages"),
    "prune": ("prune", "remove what nothing refers to any more"),
    "config": ("config", "show or set the server to talk to and the token for it"),
    "completion": ("completion", "print the completion script of a shell"),
}
HIDDEN = {"credential": ("credential", "answer git's question for the server's password")}


def split_name(words: list[str]) -> tuple[str, list[str]]:
    """The command that the words begin with, and what follows it. Raises Usage with the nearest name."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and (name in COMMANDS or name in HIDDEN):
            return name, words[length:]
    from difflib import get_close_matches

    from dstack.errors import Usage

    near = get_close_matches(words[0], COMMANDS, n=1)
    meant = f"Did you mean `dstack {near[0]}`? " if near else ""
    raise Usage(f"there is no command {words[0]!r}", meant + "`dstack --help` lists them.")


def sentence(help_line: str) -> str:
    return help_line[:1].upper() + help_line[1:] + "."


def overview() -> str:
    """The text of `dstack --help`."""
    lines = "\n".join(f"  {name:<14}{help_line}" for name, (_, help_line) in COMMANDS.items())
    return (
        "usage: dstack COMMAND [arguments]\n\nGit-native CI/CD for training models.\n\nCommands\n"
        f"{lines}\n\n  dstack COMMAND --help   about one command\n"
        "  dstack help exit-codes  what the exit codes mean\n  dstack --version        print the version"
    )
