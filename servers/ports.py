"""TCP ports that nobody listens on."""

from __future__ import annotations

import random
import socket
from pathlib import Path

HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
HANDED_OUT_FROM = 32_768
"""Linux's own default; others hand out from higher up."""
LOWEST = 20_000


def free_port() -> int:
    """On 127.0.0.1; somebody else may take it before you do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def lasting_port() -> int:
    """One that nobody gets who asks for any, so that it is still there when its server, ended for
    a moment, starts again."""
    try:
        above = int(HANDED_OUT.read_text().split()[0])
    except OSError:
        above = HANDED_OUT_FROM
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(LOWEST, max(above, LOWEST + 1000))
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
