"""nginx with the edge's own configuration, and something that behaves like a broken replica."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from servers.names import NameServer
from servers.nginx import RunningNginx, running_nginx
from tests.support.service import ROOT
from tests.support.waiting import wait_for

TEMPLATE = ROOT / "docker/edge/nginx.conf.template"
NAME_SECONDS = 10  # the edge asks for names every two
STRANGER = "127.0.0.9"  # where a test listens itself


@dataclass(frozen=True)
class Edge:
    """`http` talks to nginx, which asks `names` for the addresses of `api`."""

    http: httpx.Client
    nginx: RunningNginx
    names: NameServer

    def behind(self, *addresses: str) -> None:
        """From now on the name stands for these; returns once the edge has noticed."""
        self.names.names = {"api": addresses} if addresses else {}
        wait_for(
            lambda: self._asked_at_last() == set(addresses),
            seconds=NAME_SECONDS,
            what=f"the edge to find {addresses}",
        )

    def asked(self, answer: httpx.Response) -> list[str]:
        """The replicas that were asked for this answer, in order."""
        line = wait_for(
            lambda: self._line_of(answer.headers["x-request-id"]),
            seconds=5,
            what="a line in the log",
        )
        replicas: str = line["replica"]
        return [one.partition(":")[0] for one in replicas.split(", ") if one]

    def _line_of(self, request_id: str) -> dict[str, Any] | None:
        """It is written after the answer."""
        for line in reversed(self.nginx.log.read_text().splitlines(keepends=True)):
            if f'"id":"{request_id}"' in line and line.endswith("\n"):
                found: dict[str, Any] = json.loads(line)
                return found
        return None

    def _asked_at_last(self) -> set[str]:
        answers = [self.http.get("/health/live") for _ in range(10)]
        return {one for answer in answers for one in self.asked(answer)}


@contextmanager
def running_edge(port: int, limit: int, *addresses: str) -> Iterator[Edge]:
    """In front of the replicas at ``addresses``; a body may have ``limit`` bytes."""
    with NameServer({"api": addresses}) as names:
        values = {
            "EMEND_EDGE_RESOLVER": names.address,
            "EMEND_EDGE_API": f"api:{port}",
            "EMEND_EDGE_VLM": f"vlm:{port}",
            "EMEND_EDGE_GRAFANA": "grafana:3000",
            "EMEND_MAX_REQUEST_BYTES": str(limit),
        }
        with (
            running_nginx(TEMPLATE, values) as nginx,
            httpx.Client(base_url=nginx.url, timeout=30) as http,
        ):
            yield Edge(http, nginx, names)


@contextmanager
def stranger(port: int, answer: bytes = b"") -> Iterator[list[bytes]]:
    """Something that listens where a replica should: it reads what it is sent, gives one answer
    (by default none, as if killed at that moment) and hangs up. Yields what it was sent."""
    heard: list[bytes] = []
    with socket.create_server((STRANGER, port)) as listener:

        def listen() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    request = connection.recv(65536)
                    if request == b"end":
                        return
                    heard.append(request)
                    connection.sendall(answer)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            with socket.create_connection((STRANGER, port)) as last:
                last.sendall(b"end")
            thread.join(timeout=10)
