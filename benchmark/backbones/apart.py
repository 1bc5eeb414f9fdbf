"""A measurement in a process of its own: its peak memory is its own, and running out of it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from benchmark.backbones.measurement import Plan, measure


class ProcessEnded(Exception):
    """The process of a measurement gave no result; that it was killed is the likely reason."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(f"{plan.model} by {plan.method}: its process ended without a result")


def measure_apart(plan: Plan) -> dict[str, Any]:
    """`measure` in a process of its own. Raises what it raises, and ProcessEnded."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_give_way) as pool:
        try:
            return pool.submit(measure, plan).result()
        except BrokenProcessPool as killed:
            raise ProcessEnded(plan) from killed


def _give_way() -> None:
    """If memory runs short after all, this process ends, and no other."""
    Path("/proc/self/oom_score_adj").write_text("1000")
