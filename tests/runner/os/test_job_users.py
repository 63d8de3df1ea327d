"""Job users are lent to one attempt at a time on the whole machine, and clean."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dstack.errors import Invalid
from dstack_runner.executors.base import JobUser
from dstack_runner.users import NoUserFree, UserPool, parse_uids

FIRST = 70_001 + os.getpid() % 20_000 * 4  # of this process of pytest alone
UIDS = range(FIRST, FIRST + 3)


@pytest.fixture
def pool(tmp_path: Path) -> UserPool:
    return UserPool(UIDS, tmp_path)


def test_users_are_lent_once_and_again_after_release(pool: UserPool) -> None:
    leases = [pool.take() for _ in UIDS]
    assert [lease.user for lease in leases] == [JobUser(uid, uid) for uid in UIDS]
    with pytest.raises(NoUserFree) as caught:
        pool.take()
    assert "DSTACK_RUNNER_UIDS" in caught.value.hint
    leases[1].release()
    leases[1].release()
    assert pool.take().user.uid == UIDS[1]


def test_two_runners_of_a_machine_never_share_a_user(pool: UserPool, tmp_path: Path) -> None:
    lease = pool.take()
    assert UserPool(UIDS, tmp_path).take().user != lease.user
    text = (
        f"from pathlib import Path; from dstack_runner.users import UserPool;"
        f"print(UserPool({list(UIDS)}, Path({str(tmp_path)!r})).take().user.uid)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == str(UIDS[2]), done.stderr


def test_a_user_of_a_runner_that_died_is_free_and_cleaned(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root to run processes of another user")
    uid = UIDS[0]
    left = Path(f"/tmp/dstack-test-{os.getpid()}")
    text = (
        f"import os, signal; from pathlib import Path; from dstack_runner.users import UserPool;"
        f"UserPool([{uid}], Path({str(tmp_path)!r})).take(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", text], timeout=30)
    process = subprocess.Popen(["sleep", "600"], user=uid, start_new_session=True)
    left.mkdir()
    (left / "file").write_text("left")
    os.chown(left, uid, uid)
    try:
        lease = UserPool([uid], tmp_path).take()
        assert lease.user.uid == uid
        assert process.wait(10) == -signal.SIGKILL
        assert not left.exists()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("clean", [True, False])
def test_a_user_given_back_clean_is_not_looked_over_again(tmp_path: Path, clean: bool) -> None:
    if os.geteuid():
        pytest.skip("needs root to run processes of another user")
    pool = UserPool([UIDS[0]], tmp_path)
    pool.take().release(clean=clean)
    process = subprocess.Popen(["sleep", "600"], user=UIDS[0], start_new_session=True)
    try:
        pool.take().release()
        assert (process.poll() is None) == clean
    finally:
        process.kill()
        process.wait()


def test_a_user_given_back_with_a_process_is_not_believed_clean(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root to run processes of another user")
    pool = UserPool([UIDS[0]], tmp_path)
    lease = pool.take()
    process = subprocess.Popen(["sleep", "600"], user=UIDS[0], start_new_session=True)
    try:
        lease.release()
        pool.take().release()
        assert process.wait(5) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_a_users_lease_ends_with_its_block(pool: UserPool) -> None:
    with pool.lent() as user:
        assert user.uid == UIDS[0]
    with pool.lent() as user:
        assert user.uid == UIDS[0]


def test_a_persons_id_is_never_lent(tmp_path: Path) -> None:
    taken = pwd.getpwall()[-1].pw_uid
    assert UserPool([taken, UIDS[0]], tmp_path).uids == (UIDS[0],)


def test_the_folder_of_locks_is_closed_to_jobs(tmp_path: Path) -> None:
    UserPool(UIDS, tmp_path / "uids").take()
    assert (tmp_path / "uids").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("text", "uids"),
    [("61000-61063", range(61000, 61064)), ("70000", range(70000, 70001)), (" 2000 - 2001 ", range(2000, 2002))],
)
def test_a_range_is_read(text: str, uids: range) -> None:
    assert parse_uids(text) == uids


@pytest.mark.parametrize(
    "text", ["", "a-b", "-", "61000-", "-5", "61063-61000", "0-5", "999", "1e5", f"{2**32}", "1000-2000-3000"]
)
def test_a_bad_range_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="DSTACK_RUNNER_UIDS"):
        parse_uids(text)
