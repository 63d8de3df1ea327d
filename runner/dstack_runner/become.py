"""Forks, and turns the child into the job's process: its own session, view of the files, limits and user.

Part of the supervisor: standard library only, quick to import.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see supervise.py
import errno
import os
import resource

from dstack_runner import kernel, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

# Short of memory, the machine ends the job and not the runner.
_OOM_SCORE = b"500"


def start(launch: dict[str, Any]) -> int:
    """Fork the job's process; answers its number once its program runs. Raises OSError when the machine cannot."""
    ears, mouth = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(launch, parent, mouth)
    os.close(mouth)
    said = os.read(ears, 4096)
    os.close(ears)
    if said:
        os.waitpid(pid, 0)
        number, _, where = said.partition(b" ")
        raise OSError(int(number), os.strerror(int(number)), where.decode(errors="replace"))
    return pid


def _become(launch: dict[str, Any], parent: int, mouth: int) -> NoReturn:
    """In the child: turn into the job's process, or say into `mouth` why not."""
    try:
        try:
            _prepare(launch, parent)
        except OSError as error:
            os.write(mouth, f"{error.errno or 0} {error.filename or 'start'}".encode())
            os._exit(1)
        except BaseException as error:  # noqa: BLE001  a child must never run on into its parent's code
            os.write(mouth, f"0 {error!r}".encode())
            os._exit(1)
        _execute(launch["argv"], launch["env"])
    finally:
        os._exit(1)


def _execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """Become the program, looked up in the job's own PATH. As in a shell, 126 and 127 say why it cannot be.

    Not `os.execvpe`: it imports modules late, and by now the job's user may not read Python's own library.
    """
    name = argv[0]
    folders = [""] if "/" in name else [f"{folder or '.'}/" for folder in env.get("PATH", os.defpath).split(":")]
    reason, code = os.strerror(errno.ENOENT), 127
    for folder in folders:
        try:
            os.execve(folder + name, argv, env)  # noqa: S606  whether there is a shell is the job's choice
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                reason, code = os.strerror(error.errno or errno.EACCES), 126
    os.write(2, f"dstack: cannot run {name}: {reason}\n".encode())
    os._exit(code)


_PLAIN_SIGNALS = tuple(set(range(1, 32)) - {_signal.SIGKILL, _signal.SIGSTOP})


def _prepare(launch: dict[str, Any], parent: int) -> None:
    """Everything between fork and exec, rights given up last."""
    os.setsid()
    for number in _PLAIN_SIGNALS:
        # Python ignores some, whoever started the runner may have ignored others, and exec would hand that down.
        _signal.signal(number, _signal.SIG_DFL)
    _signal.set_wakeup_fd(-1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(launch["output"], 1)
    os.dup2(launch["output"], 2)
    for file in launch["cgroup_join"]:
        write(file, b"0")
    write("/proc/self/oom_score_adj", _OOM_SCORE)
    if launch["view"]:
        mounts.enter(launch["view"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.umask(0o022)
    if launch["uid"] is not None:
        _limit_processes(launch["pids"])
        os.setgroups([])
        os.setresgid(launch["gid"], launch["gid"], launch["gid"])
        os.setresuid(launch["uid"], launch["uid"], launch["uid"])
        kernel.forbid_new_privileges()
    kernel.die_with_parent(_signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.chdir(launch["cwd"])


def _limit_processes(count: int | None) -> None:
    """By user, so it means something only for a user that runs nothing but this job."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if count is not None and (hard == resource.RLIM_INFINITY or count < hard):
        resource.setrlimit(resource.RLIMIT_NPROC, (count, count))


def write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
