"""What keeps a server from running here."""

from __future__ import annotations


class ServerFailed(Exception):
    """It did not start; `str(error)` ends with its own log."""

    def __init__(self, server: str, log: str) -> None:
        self.server = server
        self.log = log
        super().__init__(f"{server} did not start:\n{log}")
