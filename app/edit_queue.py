"""Nudges the worker when an edit job is due, by task name and id.

The row is the truth: the worker finds due jobs by itself every second, so a nudge that cannot be
sent is logged and forgotten. A thread of its own sends them: a broker that hangs delays no answer.
Celery is imported with the first nudge, not with the service.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from registry.broker import QUEUE, TASK, broker_settings

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)
WAITING_AT_MOST = 1000
STOP_SECONDS = 2.0


class EditQueue:
    """One process's way to the broker."""

    def __init__(self, broker_url: str | None, data: Path) -> None:
        self._configuration = broker_settings(broker_url, data)
        self._waiting: queue.Queue[str | None] = queue.Queue(WAITING_AT_MOST)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.on_lost: Callable[[], object] = lambda: None

    def nudge(self, job_id: str) -> None:
        """Soon tells the worker that a job is due. Never waits and never raises: where it comes to
        nothing, the worker finds the job all the same."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="edit-queue", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(job_id)
        except queue.Full:
            self._lose([job_id], "too many nudges wait for the broker")

    def stop(self) -> None:
        """Sends what waits, and leaves a broker that hangs to the end of the process."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)
            thread.join(STOP_SECONDS)

    def _run(self) -> None:
        """A ValueError is a damaged file of the embedded broker; the worker writes it anew."""
        from kombu.exceptions import ChannelError, KombuError, OperationalError

        celery = self._connected()
        while (job_id := self._waiting.get()) is not None:
            try:
                celery.send_task(TASK, [job_id], queue=QUEUE, retry=False)
            except (OperationalError, KombuError, ChannelError, OSError, ValueError) as error:
                self._lose([job_id, *self._rest()], str(error))

    def _rest(self) -> list[str]:
        """What waits behind a nudge that was lost: it would be lost too, and slowly."""
        rest: list[str] = []
        while True:
            try:
                job_id = self._waiting.get_nowait()
            except queue.Empty:
                return rest
            if job_id is None:
                self._waiting.put(None)
                return rest
            rest.append(job_id)

    def _lose(self, job_ids: list[str], reason: str) -> None:
        for _ in job_ids:
            self.on_lost()
        jobs = ", ".join(dict.fromkeys(job_ids))
        logger.warning("edit job %s waits for the worker's own look: %s", jobs, reason)

    def _connected(self) -> Celery:
        from celery import Celery

        celery = Celery("emend", set_as_current=False)
        celery.conf.update(self._configuration)
        return celery
