"""`python -m chaos`: a storm over a stack of processes on this machine, an audit, a report."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from chaos.faults import Faults, schedule
from chaos.limit import CalledOff, called_off_after
from chaos.local_stack import local_stack
from chaos.report import lines, to_json
from chaos.storm import Outcome, Plan, Storm
from client import EmendError
from registry.errors import RegistryError
from servers import postgres, redis
from servers.errors import ServerFailed

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 2
HARD_LIMIT_SECONDS = 15 * 60.0
FAILED, NOT_RUN = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, 1 after any violation or without an end, 2 where no storm can be made."""
    options = _options(arguments)
    for absent in (postgres.why_absent(), redis.why_absent()):
        if absent is not None:
            print(f"No storm: {absent}", file=sys.stderr)
            return NOT_RUN
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**31)
    print(f"seed {seed} (the same storm: python -m chaos --seed {seed})", flush=True)
    began = time.monotonic()
    try:
        with called_off_after(options.limit) as over:
            outcome, facts = _storm(options, seed, _say(began), over)
    except CalledOff as end:
        return _without_an_end(end)
    except (ServerFailed, RegistryError, EmendError, TimeoutError) as failure:
        return _without_an_end(failure)
    report = to_json(outcome, seed=seed, seconds=time.monotonic() - began, facts=facts)
    for line in lines(report):
        print(line)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return FAILED if outcome.violations else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="drawn and printed unless given")
    parser.add_argument("--corrections", type=int, default=240, help="accepted at least")
    parser.add_argument("--faults", type=int, help="the first so many of the schedule")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmark" / "results" / "chaos.json")
    parser.add_argument("--logs", type=Path, help="a folder to keep the services' logs in")
    parser.add_argument("--limit", type=float, default=HARD_LIMIT_SECONDS, help="seconds at most")
    return parser.parse_args(arguments)


def _storm(
    options: argparse.Namespace,
    seed: int,
    say: Callable[[str], None],
    over: Callable[[], None],
) -> tuple[Outcome, dict[str, str]]:
    """What came of it, and what only the stack knows; `over` is called before that is taken down.

    Raises ServerFailed, RegistryError, EmendError, TimeoutError, CalledOff.
    """
    with local_stack(keep=options.logs) as stack:
        try:
            kinds = list(Faults(stack, random.Random(seed)).kinds)
            faults = schedule(kinds, random.Random(seed), rounds=ROUNDS)[: options.faults]
            outcome = Storm(stack, Plan(seed, options.corrections, faults), say).run()
            return outcome, {"commit": _commit(), "full_disk": stack.full_disk}
        finally:
            over()


def _without_an_end(why: BaseException) -> int:
    print(f"The storm has no end: {why}", file=sys.stderr)
    return FAILED


def _say(began: float) -> Callable[[str], None]:
    lock = threading.Lock()

    def say(line: str) -> None:
        with lock:
            print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    return say


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
