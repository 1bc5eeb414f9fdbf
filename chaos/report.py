"""What a storm came to: a table for people, JSON for machines."""

from __future__ import annotations

import platform
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chaos.faults import COPIES
from chaos.ledger import Answer
from chaos.manners import excused, lag
from chaos.storm import Outcome

SHOWN = 40
MEANS = {
    "artifact disk full": ", until a client was answered 507",
    "one job sent to both workers": f", {COPIES} messages while both ran (who took it: unknown)",
}
Json = dict[str, Any]


def to_json(outcome: Outcome, *, seed: int, seconds: float, facts: Mapping[str, Any]) -> Json:
    """`facts` are what only the caller knows: commit, stack, how a full disk was made."""
    answers = outcome.ledger.answers
    answered = [
        one for one in answers if one.status is not None and not excused(one, outcome.windows)
    ]
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        **facts,
        "python": platform.python_version(),
        "faults": dict(sorted(_counted(outcome).items())),
        "faults_injected": sum(_counted(outcome).values()),
        "faults_without_a_chance": dict(Counter(f.kind for f in outcome.injected if not f.done)),
        "messages": outcome.messages,
        "messages_delivered_twice": outcome.duplicated,
        "corrections": _corrections(outcome),
        "jobs": dict(sorted(Counter(job.status for job in outcome.evidence.jobs.values()).items())),
        "versions": len(outcome.evidence.versions),
        "promotions": len(outcome.evidence.promotions),
        "promotions_by_hand": len(outcome.ledger.promoted),
        "files_verified": outcome.evidence.files,
        "requests": len(answers),
        "requests_by_status": _by_status(answers),
        "requests_by_problem": dict(
            sorted(Counter(one.problem for one in answers if one.problem).items())
        ),
        "slowest_answers": [_shown(one) for one in sorted(answered, key=_seconds)[:-6:-1]],
        "latency_ms": _latency(answered),
        "follows_a_promotion_within_s": _worst_lag(outcome),
        "processes_that_died": dict(sorted(_deaths(outcome).items())),
        "tried_again_at_the_end": outcome.settled,
        "losses": len(outcome.violations),
        "violations": [vars(one) for one in outcome.violations[:200]],
    }


def lines(report: Json) -> Iterator[str]:
    """The table."""
    yield f"seed {report['seed']}, {report['seconds']:.0f} s; a full disk: {report['full_disk']}"
    yield ""
    for kind, count in report["faults"].items():
        yield f"  {count:5}  {kind}{MEANS.get(kind, '')}"
    for kind, count in report["faults_without_a_chance"].items():
        yield f"  {count:5}  without a chance: {kind}"
    twice, messages = report["messages_delivered_twice"], report["messages"]
    yield f"  {twice:5}  message delivered twice, of {messages} that the broker counted"
    yield ""
    for name, value in report["corrections"].items():
        yield f"  {value:5}  corrections {name.replace('_', ' ')}"
    yield f"  jobs {report['jobs']}, versions {report['versions']}"
    yield f"  promotions {report['promotions']}, files verified {report['files_verified']}"
    yield f"  requests by status {report['requests_by_status']}"
    for problem, count in report["requests_by_problem"].items():
        yield f"  {count:5}  {problem}"
    slowest = report["slowest_answers"][0]["seconds"] if report["slowest_answers"] else 0
    yield f"  slowest answer {slowest} s"
    yield f"  a promotion is followed within {report['follows_a_promotion_within_s']} s"
    yield f"  processes that died {report['processes_that_died']}"
    yield ""
    yield f"losses and violations: {report['losses']}"
    for one in report["violations"][:SHOWN]:
        yield f"  {one['rule']}: {one['detail']}"


def _counted(outcome: Outcome) -> Counter[str]:
    return Counter(fault.kind for fault in outcome.injected if fault.done)


def _corrections(outcome: Outcome) -> Json:
    evidence, accepted = outcome.evidence, outcome.ledger.accepted()
    learnt = evidence.learnt(evidence.lineage(evidence.live))
    states: Counter[str] = Counter()
    for name in accepted:
        row = evidence.corrections.get(name)
        if row is None:
            states["lost"] += 1
        elif row.state in ("superseded", "forgotten"):
            states[row.state] += 1
        else:
            states["live" if name in learnt else row.state] += 1
    sent = {image for batch in outcome.ledger.sent for image in batch.images}
    return {
        "pictures_sent": len(sent),
        "batches_sent": len(outcome.ledger.sent),
        "accepted": len(accepted),
        **dict(sorted(states.items())),
    }


def _by_status(answers: Sequence[Answer]) -> dict[str, int]:
    found = Counter(str(one.status or "no answer") for one in answers)
    return dict(sorted(found.items()))


def _seconds(one: Answer) -> float:
    return one.seconds


def _shown(one: Answer) -> Json:
    path = f"{one.method} {one.path}"
    return {"seconds": round(one.seconds, 2), "request": path, "status": one.status, "api": one.api}


def _latency(answers: Sequence[Answer]) -> Json:
    """Median and 99th percentile, in ms, of what was answered as on a good day."""
    found: Json = {}
    for name, method, path in (
        ("classify", "POST", "/classify"),
        ("corrections", "POST", "/corrections"),
    ):
        times = [
            1000 * one.seconds
            for one in answers
            if (one.method, one.path) == (method, path) and one.status in one.expected
        ]
        if len(times) > 1:
            cuts = statistics.quantiles(times, n=100, method="inclusive")
            found[name] = {"median": round(cuts[49], 1), "p99": round(cuts[98], 1)}
    return found


def _worst_lag(outcome: Outcome) -> float:
    """Over all answers of APIs that could know."""
    cut = [window for window in outcome.windows if not window.service.startswith("worker")]
    lags = [
        lag(one, outcome.evidence.promotions, outcome.first_seen) or 0.0
        for one in outcome.ledger.answers
        if one.question == "live"
        and one.version is not None
        and not any(window.overlaps(one.at - 3.0, one.at) for window in cut)
    ]
    return round(max([0.0, *lags]), 2)


def _deaths(outcome: Outcome) -> Counter[str]:
    return Counter(
        f"{death.service} {'killed' if death.planned else f'ended with {death.exit_code}'}"
        for death in outcome.deaths
    )
