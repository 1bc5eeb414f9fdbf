"""The worker's Celery application: it receives nudges, one at a time, in this very process.

The solo pool runs a task in the main thread, so nothing is forked after the encoder was loaded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from celery import Celery, signals
from celery.platforms import SecurityWarning  # type: ignore[attr-defined]
from celery.worker import state
from kombu.exceptions import ChannelError, KombuError, OperationalError

from registry.broker import QUEUE, TASK, broker_settings
from registry.errors import BrokerError, SecretError
from worker.errors import NotReady
from worker.file_broker import broker_url
from worker.redis_broker import use_transport
from worker.settings import Settings

log = logging.getLogger(__name__)
POLL_EVERY_SECONDS = 0.1
"""Of the file broker, which nobody can wait on."""


def make_app(settings: Settings) -> Celery:
    """Raises NotReady."""
    try:
        configuration = broker_settings(settings.broker_location, settings.data)
    except (BrokerError, SecretError) as error:
        raise NotReady(str(error)) from error
    use_transport()
    if settings.broker_url is None:
        configuration["broker_url"] = broker_url()
        configuration["broker_transport_options"]["polling_interval"] = POLL_EVERY_SECONDS
    app = Celery("emend", set_as_current=False)
    app.conf.update(
        configuration,
        task_time_limit=None,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
    )
    return app


def add_task(app: Celery, run_due_jobs: Callable[[], None]) -> None:
    """Registers the one task. Its argument, a job's id or "none", is only for the log."""

    def run_edit_jobs(job_id: str | None = None) -> None:
        log.debug("woken for edit job %s", job_id)
        run_due_jobs()

    app.task(name=TASK, ignore_result=True)(run_edit_jobs)


def nudge(app: Celery, job_id: str) -> bool:
    """Wakes a worker; whether the broker took it. One that cannot be reached is logged, and so is
    one whose files are damaged (ValueError)."""
    try:
        app.send_task(TASK, [job_id], queue=QUEUE, retry=False)
    except (OperationalError, KombuError, ChannelError, OSError, ValueError) as error:
        log.warning("no nudge for edit job %s: %s", job_id, error)
        return False
    return True


def give_up() -> None:
    """Ends `serve` with exit code 1 once the running task has ended; from any thread.

    Not by a signal: one that comes before Celery listens would be lost.
    """
    state.should_stop = 1  # type: ignore[assignment]


def serve(app: Celery, *, name: str, on_stop: Callable[[], None]) -> int:
    """Blocks until SIGTERM or SIGINT; the exit code, 0 for a clean stop.

    `on_stop` is called from the signal handler, so that a running task can come to its end.
    """

    def stop(**_: Any) -> None:
        on_stop()

    # The warning is about pickle; only JSON is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    signals.worker_shutting_down.connect(stop)
    worker = app.Worker(
        hostname=name,
        pool="solo",
        concurrency=1,
        queues=[QUEUE],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        task_events=False,
    )
    worker.start()
    return int(worker.exitcode or 0)
