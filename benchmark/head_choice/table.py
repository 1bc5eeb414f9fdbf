"""The table of a study, from the results of its trials."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.head_choice.trial import CHOICES, PARTS, Result
from benchmark.vqa.scoring import Spread

REFERENCE = "lorsu"
_HEAD = (
    "| trained | heads | seeds | {0} % | against LoRSU's, same seeds | corrections % "
    "| things % | things answered otherwise % | numbers trained in heads |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


class TrialsDiffer(Exception):
    """Two results of different settings or encoders cannot stand in one table."""

    def __init__(self, one: Result, other: Result) -> None:
        super().__init__(
            f"{one.trial.key} and {other.trial.key} were made with different settings or encoders: "
            "move those of one kind elsewhere"
        )


def markdown(results: Sequence[Result]) -> str:
    """One material's. Mean and sample deviation over seeds; differences are paired by seed.

    Raises ValueError without results, TrialsDiffer.
    """
    first = results[0]
    firsts: dict[object, Result] = {}
    for each in results:
        for which, told in _to_be_alike(each):
            other = firsts.setdefault(which, each)
            if told != dict(_to_be_alike(other))[which]:
                raise TrialsDiffer(each, other)
    lines = [
        f"| none | | | {first.before:.1f} | | | {first.control_before:.1f} | | |\n",
        *(
            _line(part, choice, results)
            for part in PARTS
            for choice in CHOICES
            if _of(part, choice, results)
        ),
    ]
    return _HEAD.format(first.trial.material) + "".join(lines)


def _line(part: str, choice: str, results: Sequence[Result]) -> str:
    own = _of(part, choice, results)
    reference = {each.trial.seed: each.target for each in _of(part, REFERENCE, results)}
    gains = [
        each.target - reference[each.trial.seed] for each in own if each.trial.seed in reference
    ]
    cells = [part, CHOICES[choice], str(len(own)), _told([each.target for each in own])]
    cells += ["" if choice == REFERENCE or not gains else _told(gains, sign=True)]
    cells += [_told([each.corrections for each in own]), _told([each.control for each in own])]
    cells += [_told([each.flips for each in own]), f"{own[0].head_numbers:,}"]
    return f"| {' | '.join(cells)} |\n"


def _to_be_alike(result: Result) -> list[tuple[object, object]]:
    """What must be the same in all results, in those of equal cost, and in a row: which, and it."""
    trial = result.trial
    return [
        ("all", (trial.shots, result.facts["base"])),
        (("guarded", trial.guarded), () if trial.guarded else (trial.steps, trial.rate)),
        ((trial.part, trial.choice), result.facts["config"]),
    ]


def _of(part: str, choice: str, results: Sequence[Result]) -> list[Result]:
    return [each for each in results if (each.trial.part, each.trial.choice) == (part, choice)]


def _told(values: Sequence[float], *, sign: bool = False) -> str:
    spread = Spread.of(values)
    mean = f"{spread.mean:{'+' if sign else ''}.1f}".replace("-", "−")
    return mean + (f" ± {spread.deviation:.1f}" if spread.count > 1 else "")
