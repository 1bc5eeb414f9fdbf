"""`python -m tests.support.supervised_process BEHAVIOUR …`: a child for the supervisor's tests.

serve PORT FILE   answers every GET with 200; appends its pid to FILE
wait FILE         appends its pid to FILE and waits for SIGTERM
stubborn FILE     the same, and ignores SIGTERM
exit CODE         prints a sentence and ends with CODE
"""

from __future__ import annotations

import http.server
import os
import signal
import sys
import threading
from pathlib import Path


class AlwaysOk(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def _record(file: str) -> None:
    with Path(file).open("a") as record:
        record.write(f"{os.getpid()}\n")


def _wait(file: str, *, stubborn: bool) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if stubborn else stop.set())
    _record(file)
    stop.wait()
    sys.stdout.write("stopped cleanly\n")


def main(behaviour: str, *arguments: str) -> int:
    if behaviour == "serve":
        server = http.server.HTTPServer(("127.0.0.1", int(arguments[0])), AlwaysOk)
        _record(arguments[1])
        server.serve_forever()
    if behaviour in ("wait", "stubborn"):
        _wait(arguments[0], stubborn=behaviour == "stubborn")
    if behaviour == "exit":
        sys.stdout.write("the port 8000 is in use\n")
        return int(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
