"""Starts again what dies, as a container engine does with `restart: unless-stopped`.

One thread. A delay doubles from death to death and begins anew after a while alive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from chaos.services import Service, kill_all, pause_all, resume_all
from chaos.stack import Death, Window
from servers.errors import ServerFailed

LOOK_EVERY_SECONDS = 0.05
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 8.0
SETTLED_SECONDS = 10.0


@dataclass
class _Fate:
    service: Service
    wanted: bool = False
    started_at: float = 0.0  # monotonic seconds, as the next
    delay: float = FIRST_DELAY_SECONDS
    due: float | None = None
    down_since: float | None = None  # time.time(); until it answers
    paused_since: float | None = None
    killed: bool = False


@dataclass
class Keeper:
    """Looks after services by name."""

    services: Mapping[str, Service]
    deaths: list[Death] = field(default_factory=list)
    _ended: list[Window] = field(default_factory=list)
    _fates: dict[str, _Fate] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._fates = {name: _Fate(service) for name, service in self.services.items()}
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def start(self, name: str) -> None:
        """Nothing happens once it is closing. Raises ServerFailed."""
        with self._lock:
            if self._closing.is_set():
                return
            fate = self._fates[name]
            fate.down_since = fate.down_since or time.time()
            fate.wanted, fate.delay = True, FIRST_DELAY_SECONDS
            self._start(fate)

    def stop(self, name: str) -> None:
        with self._lock:
            fate = self._fates[name]
            fate.wanted, fate.due = False, None
            fate.down_since = fate.down_since or time.time()
            fate.service.stop()

    def kill(self, name: str) -> None:
        """It is started again after a moment."""
        with self._lock:
            fate = self._fates[name]
            process = fate.service.process
            if process is None or process.poll() is not None:
                return
            fate.killed = True
            fate.down_since = fate.down_since or time.time()
            self._end_pause(name, fate)
            kill_all(process)

    def pause(self, name: str) -> None:
        with self._lock:
            fate = self._fates[name]
            if fate.service.process is not None:
                fate.paused_since = fate.paused_since or time.time()
                pause_all(fate.service.process)

    def resume(self, name: str) -> None:
        with self._lock:
            fate = self._fates[name]
            if fate.service.process is not None:
                resume_all(fate.service.process)
            self._end_pause(name, fate)

    def windows(self) -> list[Window]:
        with self._lock:
            still = [
                Window(name, since, None)
                for name, fate in self._fates.items()
                for since in (fate.down_since, fate.paused_since)
                if since is not None
            ]
            return self._ended + still

    def close(self) -> None:
        """Stops everything, the last named first, also where one of them does not stop."""
        self._closing.set()
        self._thread.join()
        with ExitStack() as ending:
            for name in self._fates:
                ending.callback(self.stop, name)
                ending.callback(self.resume, name)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_SECONDS):
            for name, fate in self._fates.items():
                with self._lock:
                    self._look(name, fate)
                if fate.wanted and fate.down_since and fate.due is None and not fate.paused_since:
                    self._end_window_of(name, fate)

    def _look(self, name: str, fate: _Fate) -> None:
        process = fate.service.process
        if not fate.wanted or process is None or process.poll() is None:
            return
        now = time.monotonic()
        if fate.due is None:
            served = fate.down_since is None
            self.deaths.append(Death(name, process.returncode, fate.killed, served, time.time()))
            fate.down_since = fate.down_since or time.time()
            self._end_pause(name, fate)
            if now - fate.started_at > SETTLED_SECONDS:
                fate.delay = FIRST_DELAY_SECONDS
            fate.due, fate.killed = now + fate.delay, False
            fate.delay = min(fate.delay * 2, LONGEST_DELAY_SECONDS)
        elif now >= fate.due:
            self._start(fate)

    def _start(self, fate: _Fate) -> None:
        fate.due = None
        fate.started_at = time.monotonic()
        try:
            fate.service.start()
        except ServerFailed:
            if not self._thread.is_alive() or threading.current_thread() is not self._thread:
                raise

    def _end_window_of(self, name: str, fate: _Fate) -> None:
        """Not under the lock: asking takes time."""
        if not fate.service.answers():
            return
        with self._lock:
            process = fate.service.process
            alive = process is not None and process.poll() is None
            if fate.down_since is not None and fate.wanted and alive:
                self._ended.append(Window(name, fate.down_since, time.time()))
                fate.down_since = None

    def _end_pause(self, name: str, fate: _Fate) -> None:
        if fate.paused_since is not None:
            self._ended.append(Window(name, fate.paused_since, time.time()))
            fate.paused_since = None
