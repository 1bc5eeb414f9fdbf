"""What makes a storm a proof: it blew, something came of it, and what died came back.

A night in which nothing went wrong loses nothing either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from chaos.audit import Violation
from chaos.evidence import Evidence
from chaos.faults import Injected
from chaos.stack import Death, Window

BACK_SECONDS = 60.0
"""A process that was killed serves again after so long at most."""
REFUSES_TO_START = 1
"""The exit code of a service that says in a sentence what it misses, and is started again."""


def faults_were_injected(
    planned: Sequence[Sequence[str]], injected: Sequence[Injected]
) -> Iterator[Violation]:
    """Every kind of the plan once at least."""
    done = {one.kind for one in injected if one.done}
    for kind in sorted({kind for kinds in planned for kind in kinds} - done):
        tries = sum(one.kind == kind for one in injected)
        told = f"{kind}: no chance in {tries} tries" if tries else f"{kind}: never tried"
        yield Violation("every planned kind of fault is injected", told)


def messages_came_twice(duplicated: int, messages: int) -> Iterator[Violation]:
    if duplicated == 0:
        told = f"none of {messages} did"
        yield Violation("messages come twice", told)


def corrections_flowed(
    accepted: Collection[str], wanted: int, evidence: Evidence
) -> Iterator[Violation]:
    """As many as were wanted, some of them learnt and live."""
    rule = "corrections flow"
    if len(accepted) < wanted:
        yield Violation(rule, f"{len(accepted)} of {wanted} were accepted")
    if not any(job.status == "succeeded" for job in evidence.jobs.values()):
        yield Violation(rule, "no job has succeeded")
    learnt = evidence.learnt(evidence.lineage(evidence.live))
    if not any(
        name in learnt and evidence.corrections[name].state not in ("superseded", "forgotten")
        for name in accepted
        if name in evidence.corrections
    ):
        yield Violation(rule, "no correction is live at the end")


def clients_lasted(gone: Sequence[str]) -> Iterator[Violation]:
    """A client that ended in the middle has asked nothing since."""
    for name in gone:
        yield Violation("clients last", f"a {name} ended by itself")


def services_live(deaths: Sequence[Death]) -> Iterator[Violation]:
    """What has once served ends by our hand only; what starts may refuse to, and says so."""
    for death in deaths:
        if death.planned or (not death.served and death.exit_code == REFUSES_TO_START):
            continue
        when = "" if death.served else " while it started"
        told = f"{death.service} ended by itself with code {death.exit_code}{when}"
        yield Violation("no service dies by itself", told)


def services_come_back(
    services: Sequence[str], deaths: Sequence[Death], windows: Sequence[Window], *, now: float
) -> Iterator[Violation]:
    """Soon after the last time that we killed them."""
    for window in windows:
        until = now if window.until is None else window.until
        kills = [
            death.at
            for death in deaths
            if (death.service, death.planned) == (window.service, True)
            and window.since <= death.at <= until
        ]
        if window.service in services and kills and until - max(kills) > BACK_SECONDS:
            told = f"{window.service} was down for {until - max(kills):.0f} s"
            yield Violation("what was killed comes back", told)
