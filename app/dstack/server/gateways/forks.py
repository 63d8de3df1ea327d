"""The bare repositories that hold forks' pull requests (named by `mirrors.fork_id`): which there are, and their age."""

from __future__ import annotations

from dstack.server.gateways.local_git import LocalGit


def forks_of(git: LocalGit, repo_id: str) -> dict[int, str]:
    """Number of the pull request -> id of its bare repository."""
    begin = f"{repo_id}-pull-"
    found = (path.name.removesuffix(".git") for path in git.root.glob(f"{begin}*.git"))
    numbers = {name.removeprefix(begin): name for name in found}
    return {int(number): name for number, name in numbers.items() if number.isascii() and number.isdecimal()}


def last_filled(git: LocalGit, fork: str) -> float:
    """When a commit came into it last (seconds since the epoch)."""
    path = git.path(fork)
    places = (path, path / "objects" / "pack", path / "refs", path / "refs" / "pull")
    return max(place.stat().st_mtime for place in places if place.exists())
