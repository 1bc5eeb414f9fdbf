"""The door to the replicas, as a real process in front of real servers on the loopback network."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers.ports import free_port
from tests.support.waiting import wait_for

DOOR = Path(__file__).resolve().parents[2] / "docker" / "door.py"
BODY = b"x" * 3_000_000
Server = tuple[str, int]


class _Echo(socketserver.BaseRequestHandler):
    """Says all that it heard, once the other side has said all."""

    def handle(self) -> None:
        heard = b""
        while chunk := self.request.recv(65536):
            heard += chunk
        self.request.sendall(heard)


class _Replica(socketserver.ThreadingTCPServer):
    request_queue_size = 128  # as any web server; the default of 5 drops connections


@contextmanager
def _door(target: str) -> Iterator[Server]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(DOOR), str(port), target])
    try:
        wait_for(lambda: _is_open(port), seconds=20, what="the door")
        yield ("127.0.0.1", port)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("door", DOOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def replica() -> Iterator[int]:
    server = _Replica(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def _say(server: Server, text: bytes) -> bytes:
    with socket.create_connection(server, timeout=20) as client:
        speaking = threading.Thread(target=lambda: (client.sendall(text), client.shutdown(1)))
        speaking.start()
        heard = b""
        while chunk := client.recv(65536):
            heard += chunk
        speaking.join()
    return heard


def test_all_bytes_go_both_ways(replica: int) -> None:
    with _door(f"127.0.0.1:{replica}") as door:
        assert _say(door, BODY) == BODY


def test_a_replica_that_is_not_there_is_passed_over(
    replica: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name stands for two addresses; nothing listens on one of them, whoever has the turn."""
    asked: list[str] = []

    def resolve(name: str, port: int, *_: object) -> list[object]:
        asked.append(name)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    async def reach_four_times() -> list[object]:
        door = _module().Door("replicas", replica)
        found = [await door.reach() for _ in range(4)]
        for _, writer in found:
            writer.close()
            await writer.wait_closed()
        return [writer.get_extra_info("peername") for _, writer in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert asyncio.run(reach_four_times()) == [("127.0.0.1", replica)] * 4
    assert asked == ["replicas"] * 4


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-name.invalid"])
def test_without_any_replica_the_answer_is_a_problem_to_try_again(host: str) -> None:
    with _door(f"{host}:{free_port()}") as (address, port):
        answer = httpx.post(f"http://{address}:{port}/classify", content=BODY)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:emend:problem:not-ready"


def test_a_client_that_goes_away_takes_nobody_with_it(replica: int) -> None:
    with _door(f"127.0.0.1:{replica}") as door:
        for _ in range(20):
            with socket.create_connection(door, timeout=20) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
                client.sendall(b"half a request")
        assert _say(door, b"still there") == b"still there"
