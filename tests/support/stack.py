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
SIGNAL = """
import os, sys
module, number = sys.argv[1].encode(), int(sys.argv[2])
for each in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{each}/cmdline", "rb") as file:
        words = file.read().split(b"\\0")
    if int(each) != os.getpid() and words[:3] == [b"python", b"-m", module]:
        os.kill(int(each), number)
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

    def signal(self, container: str, module: str, number: int) -> None:
        """To `python -m <module>` in there: no stop that an operator asked for. Not by `docker
        pause`, which can hang for good when it meets a health check under way."""
        docker("exec", container, "python", "-c", SIGNAL, module, str(int(number)))

    def processes(self, container: str) -> list[int]:
        """As this host numbers them, the first one first; only where the engine is on this host."""
        return sorted(int(each) for each in docker("top", container, "-eo", "pid").split()[1:])

    def volumes(self) -> Sequence[str]:
        listed = docker("volume", "ls", "--quiet", f"--filter=name={self.project}_")
        return sorted(name.removeprefix(f"{self.project}_") for name in listed.split())
