"""Jobs run in one thread at a time: in Celery's where a nudge comes through, else in one aside.

The broker only wakes the worker. While it is away, or hangs, or takes nudges that nobody gets, the
sweep still finds what is due, and has it run aside.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from editing.errors import EditError
from encoder.errors import EncoderError
from registry.errors import RegistryError
from worker.errors import WorkerError

log = logging.getLogger(__name__)


class Turns:
    """`work` runs what is due, until nothing is; a second call at the same time waits and then
    finds nothing to do."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._turn = threading.Lock()
        self._aside: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the work is being done."""
        return self._turn.locked()

    def run(self) -> None:
        """Raises what the work raises."""
        with self._turn:
            self._work()

    def run_aside(self) -> None:
        """Begins in a thread of its own, unless the work is being done; what it raises is logged.
        For one caller."""
        begun = self._aside is not None and self._aside.is_alive()  # it may still wait for its turn
        if self.busy or begun:
            return
        log.warning("no nudge comes through; what is due runs without the broker")
        self._aside = threading.Thread(target=self._run_logged, name="aside", daemon=True)
        self._aside.start()

    def join(self) -> None:
        """Returns once nothing runs aside."""
        if self._aside is not None:
            self._aside.join()

    def _run_logged(self) -> None:
        try:
            self.run()
        except (EditError, EncoderError, RegistryError, WorkerError) as error:
            log.error("what was due could not be run: %s", error)
