"""Which names and addresses may reach git, by tables."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.errors import Invalid
from dstack.git.names import check_ref, check_repo_name, check_sha, check_url, is_private_host, without_credentials


@pytest.mark.parametrize("sha", ["0" * 40, "abcdef0123" * 4, "a" * 64])
def test_shas(sha: str) -> None:
    assert check_sha(sha) == sha


@pytest.mark.parametrize(
    "sha", ["", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 40 + "\n", "-" + "a" * 39, "\uff41" * 40]
)
def test_not_shas(sha: str) -> None:
    with pytest.raises(Invalid):
        check_sha(sha)


GOOD_REFS = [
    "main",
    "refs/heads/main",
    "a/b",
    "$(id)",
    ";reboot",
    "a'b\"c",
    "שלום",
    "🚀",
    "x" * 250,
    "a-b",
    "a.b",
    "!",
    "%2e",
]
BAD_REFS = [
    *[
        "",
        "-x",
        "a/-x",
        "a..b",
        "x.lock",
        "a.lock/b",
        "refs/../../x",
        "a\nb",
        "a\x7fb",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
    ],
    *["a*", "[a", "a\\b", "/a", "a/", "a//b", "a.", "@", "a@{1}", ".a", "a/.b", "x" * 251, "a/" * 520 + "a", "\ud800"],
]


@pytest.mark.parametrize("ref", GOOD_REFS)
def test_refs(ref: str) -> None:
    assert check_ref(ref) == ref


@pytest.mark.parametrize("ref", BAD_REFS)
def test_not_refs(ref: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_ref(ref)
    assert refused.value.message.isprintable()


def test_git_agrees_with_what_we_take() -> None:
    for ref in GOOD_REFS:
        subprocess.run(["git", "check-ref-format", "--allow-onelevel", ref], check=True)


@given(st.text(max_size=40))
def test_a_ref_is_taken_or_refused_and_never_an_option(text: str) -> None:
    try:
        check_ref(text)
    except Invalid:
        return
    assert not text.startswith("-") and "\n" not in text and ".." not in text


@pytest.mark.parametrize("name", ["local/demo", "A-b/c.d_e", "a/.github", "1/2", "a.b/c", "o/" + "x" * 100])
def test_repo_names(name: str) -> None:
    assert check_repo_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "/a",
        "a/",
        "a/b/c",
        "../x",
        "a/..",
        "a/.",
        "-a/b",
        "a/-b",
        ".a/b",
        "a/b.git",
        "a/b.LOCK",
        "a/b c",
        "a/b\n",
        "a/b\0",
        "ä/b",
        "a/%2e",
        "a/b;c",
        "a\\b/c",
        "a/x..y",
        "o/" + "x" * 101,
        "a/b?c",
        "a/b#c",
    ],
)
def test_not_repo_names(name: str) -> None:
    with pytest.raises(Invalid):
        check_repo_name(name)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/o/n.git",
        "http://localhost:3000/git/o/n.git",
        "ssh://git@github.com:22/o/n",
        "https://[2001:db8::1]/o/n",
    ],
)
def test_addresses(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id",
        "ext::sh",
        "EXT::x",
        "fd::17",
        "file:///etc",
        "/etc",
        "./x",
        "git://h/o/n",
        "",
        "https://",
        "https:///h/o",
        "-uX",
        "--upload-pack=x",
        "--config=core.sshCommand=x",
        "ssh://-oProxyCommand=x/o",
        "ssh://-o@h/x",
        "ssh://h/-x",
        "https://u@h/o/n",
        "https://h/o n",
        "https://h/o\nn",
        "https://h:99999/o",
        "https://h/a/../b",
        "https://h/%2e%2e/b",
        "https://h/o?x=1",
        "https://h/o#x",
        "https://h\\@x/o",
        "git@github.com:o/n",
        "https://" + "x" * 2050,
        "https://[::1/o",
    ],
)
def test_not_addresses(url: str) -> None:
    with pytest.raises(Invalid):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@h/o/n", "ssh://user:hunter2@h/o", "ext://a:hunter2@x", "https://a:hunter2@b@h/ x"]
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value) + refused.value.hint
    assert "hunter2" not in without_credentials(url)


PRIVATE = [
    "127.0.0.1",
    "::1",
    "0x7f.1",
    "2130706433",
    "127.1",
    "169.254.169.254",
    "::ffff:10.0.0.1",
    "10.0.0.1",
    "192.168.1.1",
]
PRIVATE += [
    "0.0.0.0",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "fe80::1%eth0",
    "fc00::1",
    "100.64.0.1",
    "224.0.0.1",
    "printer.local",
    "64:ff9b::a9fe:a9fe",
    "::a00:1",
    "fec0::1",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts(host: str) -> None:
    assert is_private_host(host)
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(Invalid):
        check_url(f"http://{shown}/o/n", public_only=True)


@pytest.mark.parametrize("host", ["github.com", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "example.org."])
def test_public_hosts(host: str) -> None:
    assert not is_private_host(host)
