"""Between jobs: what the next job will need of the control sets is computed before it comes.

The sweep's thread asks whether there is something to do; the work itself is done where jobs run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from encoder.errors import EncoderError
from registry.control_sets import control_counts, list_control_sets
from registry.errors import StorageUnavailable
from registry.session import reading
from worker.errors import WorkerError, WorkerStopping
from worker.lineage import control_plans
from worker.workshop import Workshop

log = logging.getLogger(__name__)
Signature = tuple[tuple[str, str | None, int], ...]
"""Name, label set and number of images of every control set."""


@dataclass
class WarmUp:
    """Does its work once for each state of the control sets that has lasted for two looks."""

    workshop: Workshop
    _seen: Signature | None = None
    _ready: Signature | None = None

    def is_due(self) -> bool:
        """Raises DatabaseUnavailable."""
        with reading(self.workshop.engine) as session:
            sets = list_control_sets(session)
            counts = control_counts(session, [each.name for each in sets])
        found = tuple((each.name, each.label_set, counts[each.name].images) for each in sets)
        settled, self._seen = found == self._seen, found
        return settled and found != self._ready

    def run(self) -> None:
        """Does nothing when it is not due; what is wrong with a control set is the next job's."""
        if self._seen is None or self._seen == self._ready:
            return
        self._ready = self._seen
        with reading(self.workshop.engine) as session:
            plans = control_plans(session)
        try:
            self.workshop.controls.load(plans, guard_images=0, seed=0, progress=self._keep_going)
        except WorkerStopping:
            return
        except StorageUnavailable as outage:
            self._ready = None
            log.warning("the control sets are loaded later: %s", outage)
        except (WorkerError, EncoderError) as error:
            log.warning("the control sets are not ready: %s", error)

    def _keep_going(self, _phase: str, _step: int, _steps: int, _loss: float | None) -> None:
        if self.workshop.stopping.is_set():
            raise WorkerStopping
