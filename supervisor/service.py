"""The supervised service: migrate, run the children, restart what dies, stop cleanly."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import Empty

from supervisor.child import Child, Print
from supervisor.errors import MigrationFailed
from supervisor.events import Event, Events, Exited, Ready, StopRequested
from supervisor.readiness import announce_when_ready
from supervisor.restarts import RestartPolicy, RestartRecord

STOP_WITHIN_SECONDS = 8.0
KILL_WITHIN_SECONDS = 1.5


class Service:
    """Runs in the thread that calls `run`; everything else only puts events on the queue."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        events: Events,
        url: str,
        write: Print,
        policy: RestartPolicy,
    ) -> None:
        self._children = {child.name: child for child in children}
        self._records = {child.name: RestartRecord(policy) for child in children}
        self._due: dict[str, float] = {}  # monotonic seconds at which a child starts again
        self._events = events
        self._url = url
        self._write = write
        self._stopped = threading.Event()
        self._has_served = False

    def prepare(self, migrate: Child) -> bool:
        """Upgrades the schema; False when asked to stop meanwhile. Raises `MigrationFailed`."""
        migrate.start()
        while True:
            event = self._events.get()
            if isinstance(event, StopRequested):
                migrate.ask_to_stop()
                return False
            if isinstance(event, Exited) and event.exit_code != 0:
                raise MigrationFailed(event.exit_code)
            if isinstance(event, Exited):
                return True

    def run(self) -> None:
        """Blocks until a stop is requested. Raises `DiesAtOnce`; the children are stopped first."""
        for name in self._children:
            self._start(name)
        threading.Thread(
            target=announce_when_ready,
            args=(self._url, self._events, self._stopped),
            name="readiness",
            daemon=True,
        ).start()
        try:
            while not isinstance(event := self._next_event(), StopRequested):
                self._handle(event)
        finally:
            self._stop()

    def _next_event(self) -> Event | None:
        """The next event, or None when a restart is due first."""
        wait = min(self._due.values()) - time.monotonic() if self._due else None
        try:
            return self._events.get(timeout=None if wait is None else max(wait, 0.0))
        except Empty:
            return None

    def _handle(self, event: Event | None) -> None:
        if isinstance(event, Ready):
            self._has_served = True
            self._write(f"Emend is ready at {self._url} (documentation: {self._url}/docs)")
        if isinstance(event, Exited):
            self._plan_restart(event)
        for name in [name for name, due in self._due.items() if due <= time.monotonic()]:
            del self._due[name]
            self._start(name)

    def _plan_restart(self, death: Exited) -> None:
        now = time.monotonic()
        delay = self._records[death.name].delay_after_death(
            death.name, death.exit_code, now, has_served=self._has_served
        )
        self._write(
            f"{death.name} ended with code {death.exit_code}; starting it again in {delay:g} s"
        )
        self._due[death.name] = now + delay

    def _start(self, name: str) -> None:
        self._children[name].start()
        self._records[name].started(time.monotonic())

    def _stop(self) -> None:
        """Asks every child to end, all at once, and ends by force those that do not."""
        self._stopped.set()
        for child in self._children.values():
            child.ask_to_stop()
        self._wait_for_ends(STOP_WITHIN_SECONDS)
        for child in self._children.values():
            if child.running:
                self._write(f"{child.name} did not stop in {STOP_WITHIN_SECONDS:g} s; killing it")
                child.kill()
        self._wait_for_ends(KILL_WITHIN_SECONDS)

    def _wait_for_ends(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(child.running for child in self._children.values()):
            try:
                self._events.get(timeout=max(deadline - time.monotonic(), 0.0))
            except Empty:
                return
