"""A server that ends for a moment finds its port again."""

from __future__ import annotations

import socket

from servers.ports import HANDED_OUT, HANDED_OUT_FROM, LOWEST, free_port, lasting_port


def test_a_lasting_port_is_free_and_none_that_is_handed_out() -> None:
    above = int(HANDED_OUT.read_text().split()[0]) if HANDED_OUT.exists() else HANDED_OUT_FROM
    for _ in range(20):
        port = lasting_port()
        assert LOWEST <= port < max(above, LOWEST + 1000)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_a_free_port_is_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
