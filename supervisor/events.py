"""What can wake the supervisor; every thread and signal handler puts one of these on its queue."""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue


@dataclass(frozen=True)
class Exited:
    """The process `pid` of the child `name` ended; a negative code is the signal that ended it."""

    name: str
    pid: int
    exit_code: int


@dataclass(frozen=True)
class Ready:
    """The API answered its ready check for the first time."""


@dataclass(frozen=True)
class StopRequested:
    signal_number: int


Event = Exited | Ready | StopRequested
Events = SimpleQueue[Event]
