"""How a storm sees the deployed stack: services by name, and what can be done to them.

The faults, the traffic and the audit know no more than this, so that another way to run the stack
(containers) needs only another of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

POSTGRES = "postgres"
REDIS = "redis"
LEASE_SECONDS = 3.0
"""EMEND_LEASE of a stack that storms blow over: short, so that jobs are soon taken back."""


@dataclass(frozen=True)
class Window:
    """When a service could not answer by our doing, `time.time()` seconds; an open one has not
    ended. It was down (killed, stopped, until it answers again) or paused."""

    service: str
    since: float
    until: float | None

    def overlaps(self, since: float, until: float) -> bool:
        return self.since <= until and (self.until is None or self.until >= since)


@dataclass(frozen=True)
class Death:
    """A process that ended while it was wanted. `planned`: by our SIGKILL; `served`: it had
    answered before."""

    service: str
    exit_code: int
    planned: bool
    served: bool
    at: float


class Stack(Protocol):
    """Services: the APIs, the workers, POSTGRES and REDIS. What dies is started again, by the
    stack itself, unless it was stopped."""

    @property
    def apis(self) -> Sequence[str]: ...

    @property
    def workers(self) -> Sequence[str]: ...

    @property
    def database_url(self) -> str: ...

    @property
    def broker_url(self) -> str: ...

    @property
    def artifacts(self) -> str:
        """Folder or URL of the store, as this process reaches it."""
        ...

    def url(self, api: str) -> str:
        """Where an API answers."""
        ...

    def kill(self, service: str) -> None:
        """SIGKILL, all its processes at once."""
        ...

    def pause(self, service: str) -> None:
        """Stands still, keeps its connections."""
        ...

    def resume(self, service: str) -> None: ...

    def stop(self, service: str) -> None:
        """Asked to stop, and not started again before `start`."""
        ...

    def start(self, service: str) -> None:
        """Returns once it answers, where it is a server; raises servers.errors.ServerFailed."""
        ...

    def worker_called(self, name: str) -> str | None:
        """The service whose running process calls itself so in its jobs' rows."""
        ...

    def windows(self) -> list[Window]:
        """Every time that one of them was down or paused, so far."""
        ...

    @property
    def deaths(self) -> Sequence[Death]:
        """Every process that died, so far."""
        ...

    def fill_disk(self) -> None:
        """No further byte fits into the store of artifacts, until `free_disk`."""
        ...

    def free_disk(self) -> None: ...
