"""`python -m worker`: runs edit jobs until SIGTERM or SIGINT, which give a running one back."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from worker.celery_app import add_task, give_up, make_app, nudge, serve
from worker.compaction import Compaction
from worker.due_jobs import run_due_jobs
from worker.errors import NotReady, WorkerStopping
from worker.hearing import Hearing
from worker.priority import give_way
from worker.startup import open_workshop, read_settings
from worker.sweep import Sweep
from worker.turns import Turns
from worker.warm_up import WarmUp

log = logging.getLogger("worker")


def main() -> int:
    set_up_logging()
    stopping = threading.Event()

    def stop(_signal_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):  # until Celery installs its own
        signal.signal(number, stop)
    try:
        return run(stopping)
    except NotReady as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    except WorkerStopping:
        return 0


def set_up_logging() -> None:
    """Our own news, and what libraries warn of.

    open_clip speaks through the root logger, and says that weights are random before they are read.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("worker").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.name != "root" or record.levelno >= logging.ERROR)


def run(stopping: threading.Event) -> int:
    """Blocks until asked to stop. Raises NotReady, WorkerStopping."""
    give_way()
    settings = read_settings()
    workshop = open_workshop(settings, stopping)
    app = make_app(settings)
    warm_up, compaction = WarmUp(workshop), Compaction(workshop)
    hearing = Hearing()

    def run_jobs() -> None:
        hearing.settle()
        run_due_jobs(workshop)
        warm_up.run()
        compaction.run()

    def end() -> None:
        stopping.set()
        give_up()

    def wake(job_id: str) -> bool:
        taken = nudge(app, job_id)
        if taken:
            hearing.sent()
        return taken

    turns = Turns(run_jobs)
    add_task(app, turns.run)
    sweep = Sweep(
        engine=workshop.engine,
        store=workshop.store,
        settings=settings,
        nudge=wake,
        run_aside=turns.run_aside,
        idle=lambda: not turns.busy,
        idle_work_is_due=lambda: warm_up.is_due() or compaction.is_due(),
        stopping=stopping,
        on_failure=end,
        hearing=hearing,
    )
    sweeping = sweep.start()
    log.info("%s edits %s", workshop.name, workshop.base.name)
    try:
        return serve(app, name=workshop.name, on_stop=stopping.set)
    finally:
        stopping.set()
        sweeping.join()
        turns.join()
        workshop.engine.dispose()


def leave(exit_code: int) -> NoReturn:
    """Ends the process at once: at the lowest priority, taking torch apart can take seconds."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    leave(main())
