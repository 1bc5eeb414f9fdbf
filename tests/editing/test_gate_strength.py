"""An edit is served no stronger than its corrections need."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing.fewshot import EditTask
from editing.gate import GateConfig
from editing.losses import margins, masked_logits
from encoder.clip import Encoder
from tests.editing.test_gate import ask, candidates, push, solved_by
from tests.support.edit_task import control_set, with_earlier
from tests.support.tiny_encoder import tiny_encoder

BASE = pytest.fixture(name="base")(tiny_encoder)
STEPS = 20


def leads(encoder: Encoder, task: EditTask) -> Tensor:
    """fp32 [N], nats."""
    features = encoder.embed_images(task.pixels)
    logits = masked_logits(features, task.text_features, task.allowed, encoder.logit_scale)
    return margins(logits, task.targets)


def least(base: Encoder, task: EditTask, lead: float) -> int:
    """The smallest strength, in steps, from which on every correction leads by as much."""
    at = candidates(base, push(base))
    suffices = [bool((leads(at(k / STEPS), task) >= lead).all()) for k in range(STEPS + 1)]
    return 1 + max((k for k, enough in enumerate(suffices) if not enough), default=-1)


def at_full(base: Encoder, task: EditTask) -> float:
    """Nats by which the correction that leads least does at full strength."""
    return leads(candidates(base, push(base))(1.0), task).min().item()


def some(task: EditTask, rows: Tensor) -> EditTask:
    return replace(
        task,
        pixels=task.pixels[rows],
        targets=task.targets[rows],
        allowed=task.allowed[rows],
        new=task.new[rows],
    )


def config(lead: float) -> GateConfig:
    return GateConfig(strength_steps=STEPS, enough_lead=lead)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_an_edit_is_no_stronger_than_its_corrections_need(base: Encoder, part: float) -> None:
    task = solved_by(candidates(base, push(base))(1.0), images=4)
    lead = part * at_full(base, task)
    wanted = least(base, task, lead)
    assert 0 < wanted < STEPS
    control = control_set(base, budget=100)
    report, strength = ask(base, task, [control], config=config(lead))
    assert (report.verdict, strength) == ("promoted", wanted / STEPS)
    assert report.reason.endswith(
        f", at strength {strength:g}, the smallest at which every correction leads as it should"
    )
    served = candidates(base, push(base))(strength)
    assert (leads(served, task) >= lead).all()
    assert torch.equal(report.after.leads, leads(served, task))
    whole, _ = ask(base, task, [control], config=config(100))
    assert report.controls[0].whole.flips < whole.controls[0].whole.flips


def test_one_correction_with_nothing_to_spare_keeps_the_whole_edit(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0), images=4)
    lead = at_full(base, task) * 1.01
    assert ask(base, task, [], config=config(lead))[1] == 1


def test_a_wrong_correction_keeps_the_whole_edit(base: Encoder) -> None:
    task = solved_by(candidates(base, push(base))(1.0), wrong=1)
    report, strength = ask(base, task, [], config=config(0))
    assert (report.verdict, strength) == ("refused", 1.0)


def test_what_was_fitted_again_keeps_its_lead_too(base: Encoder) -> None:
    both = solved_by(candidates(base, push(base))(1.0), images=4)
    spare = leads(candidates(base, push(base))(1.0), both)
    order = spare.argsort(descending=True)
    task, alone = some(both, order), some(both, order[:1])
    lead = 0.9 * at_full(base, task)
    assert least(base, alone, lead) < least(base, task, lead)
    refit = with_earlier(task, [1, 2, 3])
    assert ask(base, refit, [], config=config(lead))[1] == least(base, task, lead) / STEPS
    # Those that never led by as much only have to stay right.
    high = 0.99 * spare.max().item()
    right = least(base, task, 1e-6)
    assert right < least(base, task, high)
    wanted = max(least(base, alone, high), right)
    assert ask(base, refit, [], config=config(high))[1] == wanted / STEPS


def test_a_stacked_edit_loses_no_earlier_correction(base: Encoder) -> None:
    full = candidates(base, push(base))(1.0)
    both = solved_by(full, images=30)
    spare = leads(full, both)
    order = torch.cat([spare.argsort(descending=True)[:1], spare.argsort()[:5]])
    few = some(both, order)
    task = with_earlier(few, [1, 2, 3, 4, 5])
    start = candidates(base, push(base))(0.0)
    assert start is not base
    report, strength = ask(base, task, [], start=start, config=config(0.0))
    at = candidates(base, push(base))
    wanted = next(
        k
        for k in range(1, STEPS + 1)
        if all((leads(at(j / STEPS), task) > 0).all() for j in range(k, STEPS + 1))
    )
    assert strength == wanted / STEPS
    assert report.earlier is not None
    assert report.earlier.after == 5


def test_one_that_hardly_leads_is_not_lost(base: Encoder) -> None:
    """Fitted again, right, and never ahead by enough: a weaker edit must not turn it wrong."""
    full, half = (candidates(base, push(base))(strength) for strength in (1.0, 0.5))
    both = solved_by(full, images=60)
    spare, weaker = leads(full, both), leads(half, both)
    [hardly, *_] = ((weaker < 0) & (spare < spare.max() / 2)).nonzero()[:, 0].tolist()
    order = torch.tensor([int(spare.argmax()), hardly])
    few = some(both, order)
    task = with_earlier(few, [1])
    lead = (spare[hardly].item() + 0.01) if spare[hardly] > 0 else 0.01
    report, strength = ask(base, task, [], config=config(lead))
    assert strength > 0.5
    assert report.earlier is not None
    assert report.earlier.after == 1


def test_budgets_come_first(base: Encoder) -> None:
    """What is more than a budget allows is given up, and then what nobody needs."""
    control = control_set(base, budget=30)
    at = candidates(base, push(base))
    _, most = ask(base, solved_by(at(0.5), images=4), [control], config=config(100))
    task = solved_by(at(most), images=4)
    lead = leads(at(most), task).min().item() / 2
    report, strength = ask(base, task, [control], config=config(lead))
    assert strength < most < 1
    assert report.controls[0].within
    assert "the smallest at which" in report.reason
