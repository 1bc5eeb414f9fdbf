"""How the APIs answered while everything around them broke: in time, with documented errors, and
with a version that was live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chaos.audit import Violation
from chaos.evidence import PromotionFacts
from chaos.ledger import Answer
from chaos.stack import POSTGRES, Window

LONGEST_SECONDS = 5.0
FOLLOW_SECONDS = 1.0
"""Every API serves a promotion at most so long after it is made."""
RECOVERY_SECONDS = 3.0
"""After its database came back, or itself from a pause."""
STORING = frozenset({"POST", "PUT", "DELETE"})


def answers_are_documented(
    answers: Sequence[Answer], windows: Sequence[Window]
) -> Iterator[Violation]:
    """A day's answer, or a problem document: 503 with Retry-After, 507 where something is stored;
    no answer only from an API that was down or paused."""
    rule = "errors are documented ones"
    for one in answers:
        told = f"{one.api} {one.method} {one.path}: {one.status}"
        if one.status is None:
            if not excused(one, windows):
                yield Violation(rule, f"{told} {one.trouble}")
        elif one.status in (503, 507):
            if one.problem is None:
                yield Violation(rule, f"{told} is no problem document")
            if one.status == 503 and not (one.retry_after or "").isdecimal():
                yield Violation(rule, f"{told} without Retry-After")
            if one.status == 507 and one.method not in STORING:
                yield Violation(rule, f"{told}, though nothing was to be stored")
        elif one.status not in one.expected:
            yield Violation(rule, f"{told} ({one.problem}), expected {sorted(one.expected)}")


def answers_are_in_time(
    answers: Sequence[Answer], windows: Sequence[Window]
) -> Iterator[Violation]:
    """Whatever else is down or paused."""
    for one in answers:
        if one.seconds > LONGEST_SECONDS and not excused(one, windows):
            told = f"{one.api} {one.method} {one.path}: {one.status} after {one.seconds:.1f} s"
            yield Violation(f"no answer takes over {LONGEST_SECONDS:g} s", told)


def excused(answer: Answer, windows: Sequence[Window]) -> bool:
    """Whether that very API was down or paused meanwhile."""
    return any(
        window.service == answer.api and window.overlaps(answer.at, answer.ended)
        for window in windows
    )


def versions_are_live(
    answers: Sequence[Answer],
    promotions: Sequence[PromotionFacts],
    first_seen: Mapping[int, float],
    windows: Sequence[Window],
) -> Iterator[Violation]:
    """The live encoder's answers name a version that was live then, at most a second ago."""
    rule = "X-Adapter-Version names a version that was live"
    for one in answers:
        if one.question != "live" or one.version is None:
            continue
        late = lag(one, promotions, first_seen)
        if late is None:
            yield Violation(rule, f"{one.api} answered by {one.version} before it was ever live")
        elif late > FOLLOW_SECONDS and not _cut_off(one, windows):
            yield Violation(rule, f"{one.api} answered by {one.version}, {late:.2f} s out of date")


def lag(
    answer: Answer, promotions: Sequence[PromotionFacts], first_seen: Mapping[int, float]
) -> float | None:
    """Seconds since the answer's version had stopped being live when it was asked; at most 0 where
    it had not. None when it was not live before the answer came."""
    rows = sorted(promotions, key=lambda one: one.id)
    lags = []
    for row, successor in zip(rows, [*rows[1:], None], strict=True):
        if row.version != answer.version or row.at > answer.ended:
            continue
        seen = None if successor is None else first_seen.get(successor.id)
        lags.append(0.0 if seen is None else answer.at - seen)
    return min(lags, default=None)


def _cut_off(answer: Answer, windows: Sequence[Window]) -> bool:
    """Whether the API could not know: its database or itself is away, or was until just now."""
    return any(
        window.service in (POSTGRES, answer.api)
        and window.overlaps(answer.at - RECOVERY_SECONDS, answer.at)
        for window in windows
    )
