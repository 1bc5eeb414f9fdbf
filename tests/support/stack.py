"""The deployed stack: one Compose project of its own on a real Docker engine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import EmendClient
from servers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 180
Done = subprocess.CompletedProcess[str]
CRASH = """
import os, signal, sys
me = os.getpid()
for each in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{each}/cmdline", "rb") as file:
        words = file.read().split(b"\\0")
    if int(each) != me and words[:3] == [b"python", b"-m", sys.argv[1].encode()]:
        os.kill(int(each), signal.SIGKILL)
"""


def docker(*arguments: str, check: bool = True) -> str:
    """What a docker command prints."""
    command = ["docker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout.strip()


@dataclass(frozen=True)
class Stack:
    """`settings` are EMEND_ variables as an operator would set them."""

    project: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Where a user finds the API."""
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, check: bool = True, **settings: str) -> Done:
        """One `docker compose` command; `settings` are for this command alone."""
        outside = {name: value for name, value in os.environ.items() if "EMEND" not in name}
        environment = {**outside, "EMEND_PORT": str(self.port), **self.settings, **settings}
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def up(self, *arguments: str, **settings: str) -> float:
        """Seconds until every service is healthy."""
        began = time.monotonic()
        self.run("up", "-d", "--wait", f"--wait-timeout={UP_SECONDS}", *arguments, **settings)
        return time.monotonic() - began

    def end(self) -> None:
        """Removes everything, volumes too."""
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout=5")

    def containers(self, service: str | None = None) -> list[str]:
        """Names of running containers, in order."""
        listed = self.run("ps", "--format", "{{.Name}}", *([service] if service else [])).stdout
        return sorted(listed.split())

    def said_by(self, container: str) -> str:
        """What it wrote to either stream."""
        command = ["docker", "logs", container]
        merged = subprocess.STDOUT
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=merged, text=True, check=True
        ).stdout

    def inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", container))
        description: dict[str, Any] = found
        return description

    def replica(self, container: str) -> EmendClient:
        """A client of one API container, past the door; only where the engine is on this host."""
        networks = self.inspect(container)["NetworkSettings"]["Networks"]
        address = networks[f"{self.project}_outside"]["IPAddress"]
        return EmendClient(f"http://{address}:8000", timeout=30)

    def crash(self, container: str, module: str) -> None:
        """SIGKILL of `python -m <module>` in there, which is no stop that an operator asked for."""
        docker("exec", container, "python", "-c", CRASH, module)

    def volumes(self) -> Sequence[str]:
        listed = docker("volume", "ls", "--quiet", f"--filter=name={self.project}_")
        return sorted(name.removeprefix(f"{self.project}_") for name in listed.split())
