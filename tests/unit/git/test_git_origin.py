"""The rule from an address to a repo, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.git.names import check_repo_name
from dstack.git.origin import repo_from_url


@pytest.mark.parametrize(
    ("url", "forge", "repo"),
    [
        ("https://github.com/o/n.git", "github.com", "o/n"),
        ("https://github.com/o/n", "github.com", "o/n"),
        ("https://github.com/o/n/", "github.com", "o/n"),
        ("https://user:secret@GitHub.com:443/o/n.git", "github.com", "o/n"),
        ("http://forge.example:8080/o/n", "forge.example:8080", "o/n"),
        ("git@github.com:o/n.git", "github.com", "o/n"),
        ("github.com:o/n", "github.com", "o/n"),
        ("git@github.com:/o/n.git", "github.com", "o/n"),
        ("ssh://git@github.com/o/n.git", "github.com", "o/n"),
        ("ssh://git@github.com:2222/o/n", "github.com:2222", "o/n"),
        ("git+ssh://git@github.com/o/n", "github.com", "o/n"),
        ("git://github.com/o/n.git", "github.com", "o/n"),
        ("http://localhost:3000/git/o/n.git", "dstack", "o/n"),
        ("http://any:token@127.0.0.1:3000/git/local/demo.git", "dstack", "local/demo"),
        ("https://host/behind/a/prefix/git/o/n", "dstack", "o/n"),
        ("https://github.com/o/n%2Dm.git", "github.com", "o/n-m"),
        ("https://github.com/o/.github.git", "github.com", "o/.github"),
        ("https://github.com/git/git.git", "github.com", "git/git"),
    ],
)
def test_addresses_name_a_repo(url: str, forge: str, repo: str) -> None:
    found = repo_from_url(url)
    assert found is not None
    assert (found.forge, found.repo) == (forge, repo)
    assert found == (forge, *repo.split("/"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/repo",
        "../repo",
        "./a:b/c",
        "file:///srv/o/n",
        "C:\\o\\n",
        "C:/o/n",
        "ext::sh -c o/n",
        "https://github.com/n",
        "https://github.com/",
        "https://gitlab.com/group/sub/n",
        "https://h/o/..",
        "https://h/../n",
        "https://h/o/%2e%2e",
        "https://h/o/n%2fm",
        "https://h/-o/n",
        "https://h/o/-n",
        "https://h/o/n%0a",
        "https://h/o/n\n",
        "ssh://-oProxy/o/n",
        "https://h/o/n?x",
        "https://h:port/o/n",
        "https:///o/n",
        "https://h/git/o/n/x",
        "-h:o/n",
        "git@-h:o/n",
    ],
)
def test_others_name_none(url: str) -> None:
    assert repo_from_url(url) is None


@given(st.text(max_size=60) | st.builds("https://h/{}/{}".format, st.text(max_size=9), st.text(max_size=9)))
def test_whatever_comes_a_found_name_is_in_order(url: str) -> None:
    found = repo_from_url(url)
    assert found is None or check_repo_name(found.repo)
