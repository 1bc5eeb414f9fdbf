"""`python door.py PORT HOST:PORT`: one address in front of every replica behind a name.

A published range of ports would not do: the engine hands a restarted container the next port of the
range, so nobody could keep an address. This forwards bytes and reads none of them; each connection
goes to the next replica that accepts it, and gets 503 where none does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator

CONNECT_SECONDS = 1.5
"""Time for a second attempt: the kernel makes it after one second."""
GOODBYE_SECONDS = 2.0
CHUNK = 64 * 1024
RETRY_AFTER = 2  # seconds
_PROBLEM = json.dumps(
    {
        "type": "urn:emend:problem:not-ready",
        "title": "The service is not ready",
        "status": 503,
        "detail": "no replica of the API can be reached",
        "errors": [{"detail": "no replica of the API can be reached"}],
    }
)
REFUSAL = (
    f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER}\r\n"
    f"Content-Type: application/problem+json\r\nContent-Length: {len(_PROBLEM)}\r\n"
    f"Connection: close\r\n\r\n{_PROBLEM}"
).encode()


class Door:
    """Hands each connection to one of the addresses that `host` stands for at that moment."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._turns: Iterator[int] = itertools.count()

    async def admit(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serves one client to the end of its connection."""
        with contextlib.suppress(OSError):
            replica = await self.reach()
            if replica is None:
                await _refuse(reader, writer)
            else:
                await _join((reader, replica[1]), (replica[0], writer))
        writer.close()

    async def reach(self) -> tuple[StreamReader, StreamWriter] | None:
        """A connection to the next replica that accepts one; None where none does."""
        for address in await self._addresses():
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, self._port)
        return None

    async def _addresses(self) -> list[str]:
        """Every replica once, another one first each time."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            return []
        addresses = sorted({str(each[4][0]) for each in found})
        first = next(self._turns) % len(addresses)
        return addresses[first:] + addresses[:first]


async def _join(*ways: tuple[StreamReader, StreamWriter]) -> None:
    """Copies both ways until both ends have said all, or one of them is gone."""
    try:
        async with asyncio.TaskGroup() as group:
            for source, target in ways:
                group.create_task(_copy(source, target))
    except* OSError:  # one end is gone: the other one is told by the close
        pass
    finally:
        for _, target in ways:
            target.close()


async def _copy(source: StreamReader, target: StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        target.write(chunk)
        await target.drain()
    target.write_eof()


async def _refuse(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(REFUSAL)
    await writer.drain()
    writer.write_eof()
    # Closing with bytes unread would reset the connection before the client has the answer.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            while await reader.read(CHUNK):
                pass


async def main(port: int, target: str) -> None:
    host, _, target_port = target.rpartition(":")
    server = await asyncio.start_server(Door(host, int(target_port)).admit, port=port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
