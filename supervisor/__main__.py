"""`python -m supervisor`: the whole service from one command; Ctrl-C or SIGTERM stops it."""

from __future__ import annotations

import signal
import sys
import threading
from queue import SimpleQueue
from types import FrameType

from supervisor.child import Child
from supervisor.errors import SupervisorError
from supervisor.events import Event, Events, StopRequested
from supervisor.processes import MIGRATE, SERVE, Address
from supervisor.restarts import RestartPolicy
from supervisor.service import Service


class Terminal:
    """Whole lines on standard output, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        with self._lock:
            print(line, flush=True)


def stop_on_signals(events: Events) -> None:
    def request_stop(signal_number: int, _frame: FrameType | None) -> None:
        events.put(StopRequested(signal_number))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, request_stop)


def main() -> int:
    events: SimpleQueue[Event] = SimpleQueue()
    write = Terminal().write
    stop_on_signals(events)
    children = [Child(name, command, events=events, write=write) for name, command in SERVE]
    migrate = Child(*MIGRATE, events=events, write=write)
    service = Service(
        children, events=events, url=Address().url, write=write, policy=RestartPolicy()
    )
    try:
        if service.prepare(migrate):
            service.run()
    except SupervisorError as error:
        write(str(error))
        return 1
    write("Emend has stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
