"""`python -m tests.support.held_worker FOLDER [PHASE [deaf]]`: the worker, stopped for a test.

When a job reaches PHASE, FOLDER/held appears and the job goes no further until FOLDER/go exists.
Its pulse beats on; a deaf job does not listen to it, as in one long step. The list of everyday
things is a short one, which a tiny encoder does not mind.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tests.support.running_worker import EVERYDAY
from worker import startup
from worker.__main__ import leave, main
from worker.heartbeat import Pulse

LOOK_EVERY_SECONDS = 0.02


def hold(folder: Path, held_phase: str, *, deaf: bool) -> None:
    """Makes every report of this phase wait for FOLDER/go, hearing the pulse's bad news or not."""
    report = Pulse.report

    def held_report(self: Pulse, phase: str, step: int, steps: int, loss: float | None) -> None:
        report(self, phase, step, steps, loss)
        if phase != held_phase:
            return
        (folder / "held").touch()
        pause = threading.Event()
        while not (folder / "go").exists():
            pause.wait(LOOK_EVERY_SECONDS)
            if not deaf:
                report(self, phase, step, steps, loss)

    Pulse.report = held_report  # type: ignore[method-assign]


if __name__ == "__main__":
    setattr(startup, "read_everyday", lambda: EVERYDAY)  # noqa: B010 (it is imported there)
    if len(sys.argv) > 2:
        hold(Path(sys.argv[1]), sys.argv[2], deaf="deaf" in sys.argv[3:])
    leave(main())
