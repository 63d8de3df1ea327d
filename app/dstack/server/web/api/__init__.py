"""The client API, a resource a file."""

from dstack.server.web.api import artifacts, deliveries, events, github, people, repos, runners, runs, server, tags

OPERATIONS = [
    *server.operations.all,
    *runs.operations.all,
    *events.operations.all,
    *deliveries.operations.all,
    *github.operations.all,
    *artifacts.operations.all,
    *tags.operations.all,
    *repos.operations.all,
    *runners.operations.all,
    *people.operations.all,
]

__all__ = ["OPERATIONS"]
