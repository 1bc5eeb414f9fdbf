"""Freezing a process with all its children, as a paused container is: the kernel still answers for
its sockets, the process does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Until the end of the block."""
    parent = psutil.Process(pid)
    parent.suspend()  # first: it makes no more children
    stopped = [parent, *parent.children(recursive=True)]
    try:
        for process in stopped[1:]:
            process.suspend()
        yield
    finally:
        for process in reversed(stopped):
            process.resume()
