"""Nudges the worker when an edit job is due, by task name and id.

The row is the truth: the worker finds due jobs by itself every second, so a nudge that cannot be
sent is logged and forgotten. Celery is imported with the first nudge, not with the service.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from registry.broker import QUEUE, TASK, broker_settings

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)


class EditQueue:
    """One process's way to the broker."""

    def __init__(self, broker_url: str | None, data: Path) -> None:
        self._configuration = broker_settings(broker_url, data)
        self._celery: Celery | None = None
        self._lock = threading.Lock()
        self.on_lost: Callable[[], object] = lambda: None

    def nudge(self, job_id: str) -> None:
        """Tells the worker that a job is due. Never raises: the worker finds it all the same.

        A ValueError is a damaged file of the embedded broker; the worker writes it anew.
        """
        from kombu.exceptions import ChannelError, KombuError, OperationalError

        try:
            self._connected().send_task(TASK, [job_id], queue=QUEUE, retry=False)
        except (OperationalError, KombuError, ChannelError, OSError, ValueError) as error:
            self.on_lost()
            logger.warning("edit job %s waits for the worker's own look: %s", job_id, error)

    def _connected(self) -> Celery:
        from celery import Celery

        with self._lock:
            if self._celery is None:
                self._celery = Celery("emend", set_as_current=False)
                self._celery.conf.update(self._configuration)
            return self._celery
