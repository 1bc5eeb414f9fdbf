from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing.control import ControlSet
from editing.errors import EditCancelled
from editing.fewshot import EditTask
from editing.gate import GateConfig, GateReport, judge
from editing.progress import Progress, silent
from editing.question_control import QuestionControl
from editing.questions import AskedCorrections
from encoder.clip import Encoder
from encoder.deltas import Delta, LowRank
from tests.support.edit_task import LABELS, control_set, edit_task, text_features, with_earlier
from tests.support.tiny_encoder import random_pixels, tiny_encoder

BASE = pytest.fixture(name="base")(tiny_encoder)
GRID = GateConfig(strength_steps=20)


def push(encoder: Encoder, *, size: float = 1.0) -> dict[str, Delta]:
    """A change of every attention weight that moves features the more, the stronger it is."""
    generator = torch.Generator().manual_seed(3)
    deltas: dict[str, Delta] = {}
    for block in encoder.tower.blocks:
        for name in block.attention:
            height, width = encoder.model.get_parameter(name).shape
            up = torch.randn(height, 2, generator=generator)
            down = torch.randn(2, width, generator=generator)
            deltas[name] = LowRank(down=down, up=up, scale=0.06 * size)
    return deltas


def candidates(encoder: Encoder, deltas: dict[str, Delta]) -> Callable[[float], Encoder]:
    def at(strength: float) -> Encoder:
        scaled = {name: delta.scaled(strength) for name, delta in deltas.items()}
        return encoder.merged_deltas(scaled, label=str(strength))

    return at


def answers(encoder: Encoder, pixels: Tensor, texts: Tensor) -> Tensor:
    return (encoder.embed_images(pixels) @ texts.T).argmax(dim=1)


def solved_by(encoder: Encoder, *, images: int = 20, wrong: int = 0, seed: int = 0) -> EditTask:
    """Corrections whose labels are this encoder's answers, but for the first few."""
    pixels, texts = random_pixels(images, seed=seed), text_features()
    targets = answers(encoder, pixels, texts)
    targets[:wrong] = (targets[:wrong] + 1) % LABELS
    task = edit_task(targets.tolist(), seed=seed)
    assert torch.equal(task.pixels, pixels)
    return task


class StepLog:
    """Remembers which steps a progress callback was told of."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, *report: object) -> None:
        _, step, *_ = report
        assert isinstance(step, int)
        self.steps.append(step)


def ask(
    base: Encoder,
    task: EditTask,
    controls: list[ControlSet],
    *,
    deltas: dict[str, Delta] | None = None,
    parent: Encoder | None = None,
    start: Encoder | None = None,
    config: GateConfig = GRID,
    questions: Sequence[QuestionControl] = (),
    asked: AskedCorrections | None = None,
    progress: Progress = silent,
) -> tuple[GateReport, float]:
    return judge(
        base=base,
        parent=parent or base,
        start=start or base,
        make_candidate=candidates(base, push(base) if deltas is None else deltas),
        task=task,
        controls=controls,
        config=config,
        questions=questions,
        asked=asked,
        progress=progress,
    )


def test_an_edit_that_fixes_and_keeps_is_promoted(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0))
    report, strength = ask(base, task, [control_set(base, budget=100)])
    assert (report.verdict, strength) == ("promoted", 1.0)
    assert report.reason == "20 of 20 corrections are right and every control keeps its budget"
    facts = report.to_json()
    assert facts["corrections"]["after"] == 100
    assert facts["corrections"]["before"] < 100
    assert facts["earlier"] is None
    assert facts["held_out"] is None
    assert facts["controls"][0]["before"] == 100
    assert torch.equal(report.after.rows, task.targets)
    assert torch.equal(report.before.rows, answers(base, task.pixels, task.text_features))


def test_an_edit_is_judged_without_any_control_set_too(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0))
    assert ask(base, task, [])[0].verdict == "promoted"


def test_corrections_that_stay_wrong_are_refused(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0), wrong=1)
    report, strength = ask(base, task, [control_set(base, budget=100)])
    assert (report.verdict, strength) == ("refused", 1.0)
    assert report.reason == "only 19 of 20 corrections are right, 98% are wanted"


def test_a_single_correction_must_be_right(base: Encoder) -> None:
    full = candidates(base, push(base))(1.0)
    assert ask(base, solved_by(full, images=1, wrong=1), [])[0].verdict == "refused"
    assert ask(base, solved_by(full, images=1), [])[0].verdict == "promoted"


def test_labels_that_an_image_does_not_allow_are_not_its_answer(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0), images=1, wrong=1)
    only = torch.zeros_like(task.allowed)
    only[0, task.targets[0]] = True
    assert ask(base, replace(task, allowed=only), [])[0].verdict == "promoted"


def test_earlier_corrections_must_stay_right(base: Encoder) -> None:
    full = candidates(base, push(base))(1.0)
    task = with_earlier(solved_by(full, images=30, wrong=2), [*range(20)])
    right_before = solved_by(base, images=30).targets
    targets = task.targets.clone()
    targets[:20] = right_before[:20]  # the parent, here the base, has all earlier ones right
    report, _ = ask(base, replace(task, targets=targets), [])
    assert report.verdict == "refused"
    assert "of 20 earlier corrections are right (20 were)" in report.reason
    assert report.earlier is not None
    assert (report.earlier.n, report.earlier.before) == (20, 20)


def test_earlier_corrections_that_were_wrong_before_need_not_become_right(base: Encoder) -> None:
    full = candidates(base, push(base))(1.0)
    task = with_earlier(solved_by(full, images=30, wrong=20), [*range(20)])
    report, _ = ask(base, task, [], parent=full)
    assert report.earlier is not None
    assert report.earlier.before == report.earlier.after == 0
    assert report.verdict == "promoted"


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("budget", [5.0, 12.5, 30.0])
def test_the_search_finds_the_largest_strength_that_keeps_the_budget(
    base: Encoder, budget: float, *, labelled: bool
) -> None:
    control = control_set(base, budget=budget, labelled=labelled)
    at = candidates(base, push(base))
    before = answers(base, control.pixels, control.text_features)
    lost = [
        100 * int((answers(at(k / 20), control.pixels, control.text_features) != before).sum()) / 40
        for k in range(21)
    ]
    largest = max(k for k in range(21) if max(lost[: k + 1]) <= budget)
    assert 0 < largest < 20
    assert all(each > budget for each in lost[largest + 1 :])  # this change only ever adds flips
    report, strength = ask(base, solved_by(at(largest / 20)), [control])
    assert strength == largest / 20
    assert report.verdict == "promoted"
    assert f"at strength {strength:g}" in report.reason
    assert report.controls[0].whole.after == pytest.approx(100 - lost[largest])


def test_a_stacked_edit_is_searched_from_where_it_was_fitted(base: Encoder) -> None:
    """A parent far from the base does not mislead the search: few strengths are measured."""
    parent = candidates(base, push(base))(0.3)
    control = control_set(base, budget=30)
    measured: list[float] = []
    from_parent = candidates(parent, push(base))

    def at(strength: float) -> Encoder:
        measured.append(strength)
        return from_parent(strength)

    task = solved_by(from_parent(0.1))
    _, strength = judge(
        base=base,
        parent=parent,
        start=parent,
        make_candidate=at,
        task=task,
        controls=[control],
        config=GRID,
    )
    assert 0 < strength < 1
    assert len(measured) <= 3  # the whole, the largest that keeps the budget, the next


def test_corrections_must_be_right_at_the_strength_found(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0))
    report, strength = ask(base, task, [control_set(base, budget=5)])
    assert 0 < strength < 1
    assert report.verdict == "refused"
    assert "corrections are right" in report.reason
    assert f"at strength {strength:g}" in report.reason


def test_a_budget_that_no_strength_keeps_is_refused_at_full_strength(base: Encoder) -> None:
    deltas = push(base, size=500)
    task = solved_by(candidates(base, deltas)(1.0))
    control = control_set(base, budget=0)
    report, strength = ask(base, task, [control], deltas=deltas)
    assert (report.verdict, strength) == ("refused", 1.0)
    assert "control set 'noise' loses" in report.reason
    assert "the budget is 0" in report.reason


def test_every_control_set_must_keep_its_own_budget(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0))
    lenient, strict = control_set(base, budget=100), control_set(base, budget=0)
    report, _ = ask(base, task, [lenient, replace(strict, name="strict")])
    assert report.verdict == "refused" or report.strength < 1
    assert report.controls[0].within


def test_losses_are_counted_from_the_base_so_that_they_cannot_pile_up(base: Encoder) -> None:
    parent = candidates(base, push(base))(0.9)
    control = control_set(base, budget=30, labelled=False)
    report, _ = ask(base, solved_by(parent), [control], parent=parent)
    lost_by_parent = 100 * float(
        (answers(parent, control.pixels, control.text_features)
         != answers(base, control.pixels, control.text_features)).float().mean()
    )  # fmt: skip
    assert lost_by_parent > 30
    assert report.strength < 0.9


def test_images_that_control_sets_share_are_embedded_once(base: Encoder) -> None:
    control = control_set(base, budget=100)
    other = replace(control, name="other", pixels=control.pixels.clone(), targets=None)
    task = solved_by(candidates(base, push(base))(1.0))
    first, second = StepLog(), StepLog()
    ask(base, task, [control], progress=first)
    ask(base, task, [control, other], progress=second)
    assert first.steps == second.steps == [0, 1, 2, 3]  # base, parent, and the candidate twice


def test_an_image_that_trained_through_one_set_is_seen_in_every_set(base: Encoder) -> None:
    seen = torch.arange(40) < 10
    control = replace(control_set(base, budget=100), seen=seen)
    other = replace(control, name="other", pixels=control.pixels.flip(0), targets=None, seen=None)
    task = solved_by(candidates(base, push(base))(1.0))
    report, _ = ask(base, task, [control, other])
    assert [change.unseen.n for change in report.controls] == [30, 30]


def test_cached_base_features_are_used(base: Encoder) -> None:
    control = control_set(base, budget=100, labelled=False)
    cached = replace(control, base_features=-base.embed_images(control.pixels))
    task = solved_by(candidates(base, push(base))(1.0))
    report, _ = ask(base, task, [cached])
    assert report.controls[0].whole.flips > 50


def test_judging_can_be_cancelled(base: Encoder) -> None:
    def stop(phase: str, step: int, steps: int, loss: float | None) -> None:
        assert (phase, loss) == ("gating", None)
        assert step < steps
        raise EditCancelled

    with pytest.raises(EditCancelled):
        ask(base, solved_by(base), [], progress=stop)
