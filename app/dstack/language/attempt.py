"""Fills in the one expression that is known late: the number of the attempt."""

from __future__ import annotations

from dataclasses import replace

from dstack.language.templates import ATTEMPT, ATTEMPT_ENV, Hole, fill, has_holes
from dstack.wire.job import Command, Job


def fill_attempt(job: Job, number: int) -> Job:
    """The job of attempt `number` (from 1): the number itself in arguments and environment, by reference in shells."""

    def filled(text: str) -> str:
        return fill(text, lambda hole: _value(hole, number)) if has_holes(text) else text

    commands = tuple(Command(command.shell, tuple(map(filled, command.argv))) for command in job.commands)
    env = {**{key: filled(value) for key, value in job.env.items()}, ATTEMPT_ENV: str(number)}
    return replace(job, commands=commands, env=env)


def _value(hole: Hole, number: int) -> str:
    return str(number) if hole.name == ATTEMPT else hole.written
