"""The paths of GitHub's API that we use. Every outside word in them is quoted, so none can name another operation."""

from __future__ import annotations

from urllib.parse import quote

from dstack.server.gateways.forge_facts import Place


def part(word: str | int) -> str:
    """One part of a path: `dependabot[bot]` is a login, and `..` must stay a name."""
    quoted = quote(str(word), safe="")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def repo(place: Place, *rest: str | int) -> str:
    return named_repo(place.owner, place.name, *rest)


def named_repo(owner: str, name: str, *rest: str | int) -> str:
    """`/repos/OWNER/NAME/REST...`; a word of `rest` is one part, whatever is in it."""
    return "/repos/" + "/".join(part(word) for word in (owner, name, *rest))
