"""`python -m supervisor.guard MODULE [ARGS…]` runs a module that ends with its supervisor.

Standard input is a pipe whose other end only the supervisor holds. When the supervisor ends,
however it ends (SIGKILL too), the pipe closes: the process asks itself to stop, and ends by force
if that takes too long. A pipe works on every POSIX system, unlike `PR_SET_PDEATHSIG`.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

STOP_SECONDS = 3.0


def end_with_supervisor(pipe: int, *, stop_seconds: float) -> None:
    """Blocks until `pipe` closes, then ends this process: SIGTERM first, SIGKILL after a while."""
    while os.read(pipe, 1024):
        pass
    force = threading.Timer(stop_seconds, os.kill, (os.getpid(), signal.SIGKILL))
    force.daemon = True
    force.start()
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> None:
    pipe = os.dup(sys.stdin.fileno())
    watcher = threading.Thread(
        target=end_with_supervisor,
        args=(pipe,),
        kwargs={"stop_seconds": STOP_SECONDS},
        name="supervisor-watch",
        daemon=True,
    )
    watcher.start()
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
