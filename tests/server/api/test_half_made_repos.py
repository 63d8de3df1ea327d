"""A repository whose making was cut off between its row and its folder."""

from __future__ import annotations

from served_api import Api, unique

from dstack.server.services.add_repo import add_repo


def test_a_half_made_repository_hides_no_other_and_the_next_push_completes_it(api: Api) -> None:
    name = unique("local/half")
    api.wiring.db.write(lambda s: add_repo(s, name, 1.0))
    assert {"name": name, "default_branch": "main"}.items() <= {
        repo["name"]: repo for repo in api.ok("GET", "/api/v1/repos")
    }[name].items()
    copy = api.working_copy(name)
    sha = copy.commit({"a": "1"})
    copy.push()
    assert api.wiring.git.has_commit(str(api.repo_id(name)), sha)
