"""Candidates whose text tower moved are judged by what their own text tower says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing.control import ControlSet
from editing.errors import EditCancelled, InvalidTask
from editing.fewshot import EditTask
from editing.gate import GateConfig, GateReport, judge
from editing.judged_texts import Embedded, JudgedTexts
from editing.progress import Progress, silent
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from encoder.deltas import Dense
from encoder.prompts import prompt_features
from tests.support.edit_task import LABELS, PROMPTS, read_task
from tests.support.tiny_encoder import EMBEDDING, random_pixels, tiny_encoder

TURN = 0.2


def texts_of(encoder: Encoder) -> Tensor:
    return prompt_features(encoder, PROMPTS, TextFeatureCache(100))


def turned(encoder: Encoder, size: float, seed: int = 0) -> Encoder:
    """The same pixels, other words."""
    generator = torch.Generator().manual_seed(seed)
    turn = size * torch.randn(EMBEDDING, EMBEDDING, generator=generator)
    return encoder.merged_deltas({"text_projection": Dense(turn)}, label=f"turned {size}")


def answers(encoder: Encoder, pixels: Tensor) -> Tensor:
    return (encoder.embed_images(pixels) @ texts_of(encoder).T).argmax(dim=1)


def task_of(start: Encoder, solved_by: Encoder) -> EditTask:
    """Corrections whose labels are what `solved_by` says."""
    targets = answers(solved_by, random_pixels(20))
    return read_task(start, targets.tolist())


def controls_of(base: Encoder, *, budget: float, pixels: Tensor) -> ControlSet:
    return ControlSet(
        name="noise",
        pixels=pixels,
        targets=answers(base, pixels),
        text_features=texts_of(base),
        prompts=PROMPTS,
        budget=budget,
    )


def ask(
    base: Encoder,
    task: EditTask,
    control: ControlSet,
    *,
    parent: Encoder,
    start: Encoder,
    progress: Progress = silent,
) -> tuple[GateReport, float]:
    return judge(
        base=base,
        parent=parent,
        start=start,
        make_candidate=lambda strength: turned(start, TURN * strength),
        task=task,
        controls=[control],
        config=GateConfig(),
        progress=progress,
    )


def test_corrections_and_controls_are_asked_with_the_candidates_own_texts() -> None:
    base = tiny_encoder()
    task = task_of(base, turned(base, TURN))
    control = controls_of(base, budget=100, pixels=random_pixels(30, seed=9))
    report, strength = ask(base, task, control, parent=base, start=base)
    assert (report.verdict, strength) == ("promoted", 1.0)
    assert report.corrections.after == 20
    assert report.corrections.before == int((answers(base, task.pixels) == task.targets).sum())
    after = answers(turned(base, TURN), control.pixels)
    flips = 100 * (after != control.rows).float().mean().item()
    assert report.controls[0].whole.flips == pytest.approx(flips)
    assert flips > 0


def test_a_moved_text_tower_is_held_to_the_budget() -> None:
    base = tiny_encoder()
    task = task_of(base, turned(base, TURN))
    control = controls_of(base, budget=10, pixels=random_pixels(30, seed=9))
    report, strength = ask(base, task, control, parent=base, start=base)
    assert 0 < strength < 1
    served = answers(turned(base, TURN * strength), control.pixels)
    assert (served != control.rows).float().mean().item() <= 0.1
    assert torch.equal(report.after.rows, answers(turned(base, TURN * strength), task.pixels))


def test_on_a_parent_with_moved_texts_each_encoder_has_its_own() -> None:
    base = tiny_encoder()
    parent = turned(base, 0.5, seed=4)
    task = task_of(parent, turned(parent, TURN))
    control = controls_of(base, budget=100, pixels=random_pixels(30, seed=9))
    report, _ = ask(base, task, control, parent=parent, start=parent)
    assert torch.equal(report.before.rows, answers(parent, task.pixels))
    assert torch.equal(report.after.rows, answers(turned(parent, TURN), task.pixels))
    whole = report.controls[0].whole
    assert whole.before == 100  # the base's answers, with the base's texts
    # A refit from the base beside a live version whose texts moved.
    report, _ = ask(base, task_of(base, turned(base, TURN)), control, parent=parent, start=base)
    assert torch.equal(report.before.rows, answers(parent, task.pixels))
    assert torch.equal(report.after.rows, answers(turned(base, TURN), task.pixels))


def test_without_prompts_a_moved_text_tower_is_refused() -> None:
    base = tiny_encoder()
    task = task_of(base, turned(base, TURN))
    control = controls_of(base, budget=100, pixels=random_pixels(30, seed=9))
    with pytest.raises(InvalidTask, match="text tower moved"):
        ask(base, replace(task, prompts=None), control, parent=base, start=base)
    with pytest.raises(InvalidTask, match="text tower moved"):
        ask(base, task, replace(control, prompts=None), parent=base, start=base)


def test_prompts_must_be_as_many_as_labels() -> None:
    base = tiny_encoder()
    with pytest.raises(InvalidTask, match=f"{LABELS - 1} prompts for {LABELS} labels"):
        replace(task_of(base, base), prompts=PROMPTS[1:])
    with pytest.raises(InvalidTask, match="prompts"):
        replace(controls_of(base, budget=1, pixels=random_pixels(2)), prompts=PROMPTS[1:])


def test_reading_many_labels_can_be_cancelled() -> None:
    base = tiny_encoder()

    def stop() -> None:
        raise EditCancelled

    texts = JudgedTexts(stop)
    assert texts.of(base, texts_of(base), base, None) is not None
    with pytest.raises(EditCancelled):
        texts.of(turned(base, TURN), texts_of(base), base, PROMPTS)


def test_blended_texts_are_unit_rows_and_unmoved_ones_are_the_same() -> None:
    base, other = tiny_encoder(), turned(tiny_encoder(), TURN)
    images = base.embed_images(random_pixels(3))
    one, two = Embedded(images, texts_of(base)), Embedded(images, texts_of(other))
    half = one.towards(two, 0.5)
    torch.testing.assert_close(half.texts.norm(dim=-1), torch.ones(LABELS))
    assert not torch.allclose(half.texts, one.texts, atol=1e-3)
    assert one.towards(Embedded(images, one.texts), 0.5).texts is one.texts
