"""A name server as small as can be: some names, each with IPv4 addresses that change at will.

Like Docker's own it hands every address out with a long lifetime, and leaves it to those who ask
to ask again.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Self

LOOPBACK = "127.0.0.1"
LIFETIME_SECONDS = 600
A, INTERNET = 1, 1
ANSWER, NAME_UNKNOWN = 0x8180, 3
QUESTION_BYTES = 512  # of a whole message over UDP
HEADER = struct.Struct(">6H")
NAME_OF_THE_QUESTION = 0xC000 | HEADER.size


class NameServer:
    """Answers on ``address`` (UDP) while its block runs. ``names`` may be replaced at any time."""

    def __init__(self, names: Mapping[str, tuple[str, ...]]) -> None:
        self.names = names
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._thread = threading.Thread(target=self._serve, name="names", daemon=True)

    @property
    def address(self) -> str:
        """`host:port`."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())  # no message at all: the end
        self._thread.join(timeout=5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            message, asker = self._socket.recvfrom(QUESTION_BYTES)
            if not message:
                return
            self._socket.sendto(self._answer(message), asker)

    def _answer(self, message: bytes) -> bytes:
        number = HEADER.unpack_from(message)[0]
        name, end = _name_at(message, HEADER.size)
        kind = struct.unpack_from(">H", message, end)[0]
        question = message[HEADER.size : end + 4]
        known = self.names.get(name)
        addresses = known if known is not None and kind == A else ()
        flags = ANSWER | (0 if known else NAME_UNKNOWN)
        records = b"".join(
            struct.pack(">3HLH", NAME_OF_THE_QUESTION, A, INTERNET, LIFETIME_SECONDS, 4)
            + ipaddress.IPv4Address(address).packed
            for address in addresses
        )
        return HEADER.pack(number, flags, 1, len(addresses), 0, 0) + question + records


def _name_at(message: bytes, start: int) -> tuple[str, int]:
    """The name written there, and where what follows it begins."""
    labels = []
    while length := message[start]:
        labels.append(message[start + 1 : start + 1 + length].decode("ascii").lower())
        start += 1 + length
    return ".".join(labels), start + 1
