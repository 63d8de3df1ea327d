"""A runner in small, to be killed: starts the shell texts it is given and waits. Arguments: RECORDS ISOLATED TEXT..."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dstack_runner.executors.base import Launch
from dstack_runner.executors.choose import choose
from dstack_runner.executors.process import ProcessExecutor

if __name__ == "__main__":
    records, isolated, *texts = sys.argv[1:]
    choice = choose(Path(records)) if isolated == "isolated" else None
    executor = choice.executor if choice else ProcessExecutor(Path(records))
    for number, text in enumerate(texts):
        user = choice.users.take().user if choice and choice.users else None
        argv = ("/bin/sh", "-c", text)
        running = executor.start(Launch(argv, {"PATH": os.defpath}, Path("/"), f"{records}-{number}", user), 1)
        print("pid", running.pid, user.uid if user else 0, flush=True)
    time.sleep(600)
