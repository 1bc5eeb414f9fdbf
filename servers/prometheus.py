"""Prometheus with a configuration of ours, on a free port, and `promtool`, which comes with it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from servers.errors import ServerFailed
from servers.ports import free_port
from servers.waiting import wait_until

START_SECONDS = 30
STOP_SECONDS = 20


def why_absent() -> str | None:
    """Why no server can be started here, as a sentence; None when one can."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"{missing[0]} is not installed (apt-get install prometheus)" if missing else None


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command of the tool, to its end."""
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@dataclass(frozen=True)
class RunningPrometheus:
    """What it has found out, over its own API."""

    http: httpx.Client

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression at this moment. Raises HTTPStatusError for a wrong one."""
        answer = self.http.get("/api/v1/query", params={"query": expression}).raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def names(self) -> set[str]:
        """Every metric that it has seen."""
        answer = self.http.get("/api/v1/label/__name__/values").raise_for_status()
        return set(answer.json()["data"])


@contextmanager
def running_prometheus(configuration: Path, folder: Path) -> Iterator[RunningPrometheus]:
    """Data and log go to `folder`. Raises ServerFailed."""
    port = free_port()
    log = folder / "prometheus.log"
    flags = {
        "config.file": configuration,
        "storage.tsdb.path": folder / "prometheus",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["prometheus", *(f"--{name}={value}" for name, value in flags.items())],
            stdout=output,
            stderr=output,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            wait_until(
                lambda: process.poll() is not None or _is_ready(http),
                seconds=START_SECONDS,
                what="Prometheus to be ready",
            )
            if process.poll() is not None:
                raise ServerFailed("Prometheus", log.read_text(errors="replace"))
            yield RunningPrometheus(http)
    finally:
        process.terminate()
        process.wait(timeout=STOP_SECONDS)


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
