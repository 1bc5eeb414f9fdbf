"""One supervised process: start, forward its log, notice its end, stop it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

from supervisor.events import Events, Exited

Print = Callable[[str], None]
# Threads of PyTorch that wait give their core away: the API and the worker share the cores, and
# spinning made a training step seven times slower when both were busy.
YIELDING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


class Child:
    """`python -m MODULE ARGS…` in a process group of its own: Ctrl-C reaches only the supervisor.

    It stays in the session, because Linux weighs the niceness of processes only within one.
    """

    def __init__(self, name: str, command: list[str], *, events: Events, write: Print) -> None:
        self.name = name
        self.command = command
        self._events = events
        self._write = write
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the process; its end arrives as an `Exited` event."""
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "supervisor.guard", *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            env=YIELDING | os.environ,
        )
        self._process = process
        threading.Thread(
            target=self._follow, args=(process,), name=f"follow-{self.name}", daemon=True
        ).start()

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None:
            self._forward(process.stdout)
        exit_code = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        self._events.put(Exited(self.name, process.pid, exit_code))

    def _forward(self, log: IO[bytes]) -> None:
        with log:
            for line in log:
                self._write(f"{self.name:<6} | {line.decode(errors='replace').rstrip()}")

    def ask_to_stop(self) -> None:
        if self._process is not None and self.running:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None and self.running:
            self._process.kill()
