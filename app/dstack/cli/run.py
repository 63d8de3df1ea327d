"""`dstack run`: ships the working tree as it is, starts a run on it and follows its log."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path

from dstack.cli import connection, follow, output, quantities, terminal
from dstack.cli.lint import read_working_tree
from dstack.cli.repository import Repository, open_repository, repo_name
from dstack.cli.runwords import PROVIDERS, RunWords, find_target, no_target, own_parser, read_provider, read_workflow
from dstack.cli.worktree import DEFAULT_MAX_BYTES, Shipment, pack_working_tree, push_shipment
from dstack.client import Client, Json
from dstack.client.refusal import plain
from dstack.errors import ConfigProblems
from dstack.git.names import check_repo_name
from dstack.language import Context, Problem, read_project, resolve
from dstack.providers import ad_hoc


def run_words(words: Sequence[str]) -> int:
    """The whole command: what it accepts depends on the repository, so it reads its words itself."""
    position = find_target(words)
    if position is None:
        asks_help = any(word in ("-h", "--help") for word in words)
        if asks_help:
            own_parser().print_help()
            return 0
        raise no_target(_workflow_names())
    target = words[position]
    rest = [*words[:position], *words[position + 1 :]]
    if position and words[position - 1] == "--":  # `dstack run -- NAME`: a name that looks like an option
        rest = [*words[: position - 1], *words[position + 1 :]]
    repository = open_repository(Path.cwd())
    return start(_read(target, rest, repository), repository)


def start(asked: RunWords, repository: Repository) -> int:
    """Ship the tree, start the run and stay with it."""
    settings = asked.settings
    repo = check_repo_name(settings.repo or repo_name(repository.remotes, repository.root.name))
    with pack_working_tree(repository, settings.max_upload or DEFAULT_MAX_BYTES) as shipment:
        _warn_of_secrets(shipment)
        request = make_request(asked, shipment, repo, key=secrets.token_hex(16))
        if settings.dry_run:
            return _print_plan(settings, request, shipment)
        client = connection.connect(settings, start_local=True)
        push_shipment(repository, shipment, f"{client.url}/git/{repo}.git", client.token)
    runs = client.start(request)
    return _stay(client, settings, runs, shipment)


def make_request(asked: RunWords, shipment: Shipment, repo: str, key: str) -> Json:
    """The RunRequest; pure. The same key, sent again, answers with the same runs."""
    return {
        "repo": repo,
        "sha": shipment.sha,
        "workflow": asked.workflow,
        "branch": shipment.branch,
        "parent": shipment.parent,
        "variables": asked.variables,
        "provider": asked.provider,
        "options": asked.options,
        "idempotency_key": key,
        "fresh": asked.settings.fresh,
    }


def _read(target: str, rest: Sequence[str], repository: Repository) -> RunWords:
    files, unreadable = read_working_tree(repository.root)
    project = read_project(files)
    problems = (*unreadable, *project.problems)
    if target in project.workflows:
        workflow = project.workflows[target]
        asked = read_workflow(rest, target, workflow.help, workflow.variables)
        _refuse(problems)
    elif target in PROVIDERS or target in project.providers:
        asked = read_provider(rest, target)
        workflow = ad_hoc(asked.provider, asked.options, project.providers)
    else:
        _refuse(problems)
        raise no_target(project.workflows, target)
    # The server resolves it again; here, so that a wrong value is said before anything is sent.
    resolve(workflow, asked.variables, Context("run-1", "owner/name", "0" * 40, "main", "manual"))
    return asked


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigProblems("\n".join(map(str, problems)), "Nothing was sent. `dstack lint` checks again.")


def _workflow_names() -> list[str]:
    return list(read_project(read_working_tree(open_repository(Path.cwd()).root)[0]).workflows)


def _warn_of_secrets(shipment: Shipment) -> None:
    if shipment.secret_like:
        names = ", ".join(plain(name) for name in shipment.secret_like[:5])
        output.warn(f"untracked files that look like credentials are shipped too: {names}; .gitignore keeps them here")


def _print_plan(settings: argparse.Namespace, request: Json, shipment: Shipment) -> int:
    if settings.json:
        output.print_json(request)
        return 0
    what = request["workflow"] or f"{request['provider']} {request['options']}"
    print(f"would run {what} of {request['repo']} at {describe(shipment)}")
    for name, value in request["variables"].items():
        print(f"  {name}={value}")
    return 0


def describe(shipment: Shipment) -> str:
    """What is shipped, in words."""
    if not shipment.parent:
        return output.short_sha(shipment.sha)
    changed = f"{shipment.changed} changed file" + ("s" if shipment.changed != 1 else "")
    return f"{output.short_sha(shipment.parent)} with {changed}, {quantities.size(shipment.sent_bytes)}"


def _stay(client: Client, settings: argparse.Namespace, runs: list[Json], shipment: Shipment) -> int:
    run = runs[0]
    name = run["name"]
    if settings.json:
        output.print_json(run)
        return 0
    for other in runs[1:]:
        terminal.tell(plain(f"first {other['workflow']}: {other['name']}"))
    terminal.tell(plain(f"{name}  {run['workflow']} at {describe(shipment)}  {client.url}/runs/{name}"))
    if settings.detach:
        print(plain(name))
        return 0
    return follow.follow(client, name)
