"""Freezing a process with all its children, as a paused container is: the kernel still answers for
its sockets, the process does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.waiting import wait_for

STOPPED = "T"


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Until the end of the block."""
    parent = psutil.Process(pid)
    parent.suspend()  # first: it makes no more children
    stopped = [parent, *parent.children(recursive=True)]
    try:
        for process in stopped[1:]:
            process.suspend()
        for process in stopped:
            wait_for(lambda: _stands_still(process), seconds=10, what=f"{process} to stop")  # noqa: B023
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


def _stands_still(process: psutil.Process) -> bool:
    """Every thread: one that waits for a disk stops when it is done with it."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == STOPPED for stat in threads)
