"""The loop: it learns, it resumes exactly, it keeps an average."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from recipes.bundled_encoder import image_tower
from recipes.bundled_encoder.batches import Batch, crop_batch, draw_batch
from recipes.bundled_encoder.image_tower import (
    ImagePlan,
    Run,
    TrainingData,
    adopt_average,
    choose_cells,
    learning_rate,
    resume_run,
    start_run,
    take_step,
    train_image_tower,
    update_average,
)
from recipes.bundled_encoder.photos import Photos
from recipes.bundled_encoder.student import create_student
from recipes.bundled_encoder.teacher import TeacherTargets
from tests.recipes.tiny_student import FEATURES, TINY_CONFIG

PLAN = ImagePlan(epochs=2, batch=4, learning_rate=3e-3, save_every=100)


def fresh_run(plan: ImagePlan = PLAN) -> Run:
    return start_run(create_student(0, TINY_CONFIG), FEATURES, plan)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_steps_lower_the_loss(data: TrainingData, optimizer: str) -> None:
    run = fresh_run(replace(PLAN, optimizer=optimizer))
    generator = torch.Generator().manual_seed(0)
    batch = crop_batch(data.photos, data.targets, data.members, generator)
    kept = choose_cells(len(data.members), 1.0, 64, generator)
    losses = [
        take_step(run, batch, data.rows, kept=kept, rate=PLAN.learning_rate)["loss"]
        for _ in range(8)
    ]
    assert losses[-1] < 0.9 * losses[0]


def test_a_run_resumed_after_an_interrupt_ends_where_an_unbroken_one_does(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, save_every=2)
    unbroken, broken, resumed = fresh_run(), fresh_run(), fresh_run()
    train_image_tower(unbroken, data, plan, checkpoint=tmp_path / "unbroken.safetensors")
    checkpoint = tmp_path / "broken.safetensors"
    drawn: list[Tensor] = []

    def interrupted(
        photos: Photos, targets: TeacherTargets, members: Tensor, g: Generator
    ) -> Batch:
        drawn.append(members)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw_batch(photos, targets, members, g)

    with monkeypatch.context() as patch:
        patch.setattr(image_tower, "draw_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_image_tower(broken, data, plan, checkpoint=checkpoint)
    resume_run(resumed, checkpoint)
    assert resumed.step == 2
    train_image_tower(resumed, data, plan, checkpoint=checkpoint)
    assert resumed.step == unbroken.step == 8
    for name, value in unbroken.trained().items():
        assert torch.equal(value, resumed.trained()[name]), name
        assert torch.equal(unbroken.average[name], resumed.average[name]), name


def test_text_weights_do_not_move(data: TrainingData, tmp_path: Path) -> None:
    run = fresh_run()
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    train_image_tower(run, data, PLAN, checkpoint=tmp_path / "run.safetensors")
    for name, value in run.student.state_dict().items():
        learns = name in run.trained()
        assert torch.equal(before[name], value) != learns, name


def test_the_average_lies_between_start_and_now() -> None:
    run = fresh_run()
    run.step = 1000
    with torch.no_grad():
        run.student.visual.proj.zero_()
    start = run.average["visual.proj"].clone()
    update_average(run, 0.75)
    torch.testing.assert_close(run.average["visual.proj"], 0.75 * start)
    adopt_average(run)
    torch.testing.assert_close(run.student.visual.proj.detach(), 0.75 * start)


def test_the_rate_rises_then_falls_to_zero() -> None:
    plan = ImagePlan(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(plan, progress) for progress in (0.05, 0.1, 0.5, 1.0)]
    assert rates[0] == 0.5
    assert rates[1] > rates[2] > rates[3] == 0.0


def test_chosen_cells_are_distinct_and_ordered() -> None:
    kept = choose_cells(10, 0.5, 64, torch.Generator().manual_seed(0))
    assert kept.shape == (10, 32)
    assert bool((kept.diff(dim=1) > 0).all())
