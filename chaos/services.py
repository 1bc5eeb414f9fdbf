"""The services of a local stack, each a process (with its children) that can be started again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 20
ASK_SECONDS = 1.0


class Service(Protocol):
    """`process` is the one started last; None before the first."""

    @property
    def process(self) -> subprocess.Popen[bytes] | None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def answers(self) -> bool:
        """Whether it does its work, now that its process runs."""
        ...


class Module:
    """`python -m MODULE`, which ends with this process; its log goes to a file.

    It answers once `url` does; one without a URL, once it has said `ready` in its log.
    In a process group of its own, and in our session: Linux weighs niceness only within one.
    """

    def __init__(
        self,
        module: str,
        log: Path,
        environment: Mapping[str, str],
        *,
        url: str | None = None,
        ready: str = "",
    ) -> None:
        self._module = module
        self._log = log
        self._environment = dict(environment)
        self._url = url
        self._ready = ready.encode()
        self._said = 0  # bytes, before its latest start
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._let_go()
        with self._log.open("ab") as output:
            self._said = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.guard", self._module],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self._environment,
                process_group=0,
            )

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._let_go()

    def answers(self) -> bool:
        if self._url is None:
            with self._log.open("rb") as log:
                log.seek(self._said)
                return self._ready in log.read()
        try:
            return httpx.get(f"{self._url}/health/live", timeout=ASK_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def _let_go(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


def pause_all(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Stops the process first, so that it starts no other, then all that it has started; returns
    them all."""
    try:
        root = psutil.Process(process.pid)
        root.suspend()
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    _signal(family[1:], signal.SIGSTOP)
    return family


def resume_all(process: subprocess.Popen[bytes]) -> None:
    """The children first: their parent finds them as it left them."""
    try:
        root = psutil.Process(process.pid)
        children = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    _signal([*children, root], signal.SIGCONT)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and all that it has started; none of them sees another's end."""
    family = pause_all(process)
    _signal(family, signal.SIGKILL)
    process.wait(timeout=STOP_SECONDS)
    psutil.wait_procs(family[1:], timeout=STOP_SECONDS)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(number)
