"""nginx with a configuration of ours, on a free port, as a user that may do nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from servers.errors import ServerFailed
from servers.ports import free_port
from servers.waiting import wait_until

START_SECONDS = 20
STOP_SECONDS = 20
NOBODY = "nobody"
_PLACE = re.compile(r"\$\{(EMEND_[A-Z_]+)\}")


def find_binary() -> str | None:
    """Debian keeps it out of the PATH of those who are not root."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def why_absent() -> str | None:
    """Why no server can be started here, as a sentence; None when one can."""
    if find_binary() is None:
        return "nginx is not installed (apt-get install nginx)"
    return None


def places(template: str) -> set[str]:
    """The variables that a template wants to be filled in."""
    return set(_PLACE.findall(template))


def filled_in(template: str, values: Mapping[str, str]) -> str:
    """As the image's entry point does it: `${EMEND_…}` only. Raises KeyError for a missing one."""
    return _PLACE.sub(lambda place: values[place.group(1)], template)


@dataclass(frozen=True)
class RunningNginx:
    """`log` holds what it wrote to stdout and stderr."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running_nginx(template: Path, values: Mapping[str, str]) -> Iterator[RunningNginx]:
    """`values` are the template's but for the address to listen on; asked for `/edge/live` until it
    answers. Raises ServerFailed."""
    binary = find_binary()
    if binary is None:
        raise ServerFailed("nginx", str(why_absent()))
    folder = Path(tempfile.mkdtemp(prefix="emend-nginx-"))
    folder.chmod(0o777)
    port = free_port()
    configuration, log = folder / "nginx.conf", folder / "log"
    listen = {"EMEND_EDGE_LISTEN": f"127.0.0.1:{port}"}
    configuration.write_text(filled_in(template.read_text(), {**values, **listen}))
    log.touch()
    log.chmod(0o666)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [binary, "-e", "stderr", "-p", folder, "-c", configuration, "-g", "daemon off;"],
            user=NOBODY if os.geteuid() == 0 else None,
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        running = RunningNginx(f"http://127.0.0.1:{port}", log, process)
        wait_until(
            lambda: process.poll() is not None or _answers(running.url),
            seconds=START_SECONDS,
            what="nginx to answer",
        )
        if process.poll() is not None:
            raise ServerFailed("nginx", log.read_text(errors="replace"))
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_SECONDS)
        shutil.rmtree(folder)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/edge/live").status_code == 200
    except httpx.TransportError:
        return False
