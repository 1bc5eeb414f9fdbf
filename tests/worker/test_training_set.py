"""Which corrections an edit is fitted on, and on top of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from editing.training_config import TrainingConfig
from encoder.classifier import TextFeatureCache
from encoder.deltas import Dense
from encoder.prompts import prompt_features
from registry.artifacts import ArtifactStore
from registry.lineage import Learnt
from registry.tables import Correction
from tests.support.running_worker import COLOURS, EVERYDAY, picture
from tests.support.tiny_encoder import EMBEDDING, tiny_encoder
from worker.asked_corrections import Asker
from worker.control_sets import Budgets, ControlLoader, ControlPlan, plan_images
from worker.language_model import LanguageModel
from worker.stored_images import ImageReader, Wanted
from worker.training_set import TrainingPlan, TrainingSetBuilder, plan_training


def corrections(count: int, *, prefix: str, classes: int = 1) -> list[Correction]:
    return [Correction(id=f"{prefix}{n}", label=f"label {n % classes}") for n in range(count)]


def ids(rows: Sequence[Correction]) -> list[str]:
    return [row.id for row in rows]


def plan(
    new: Sequence[Correction],
    live: Sequence[Correction],
    *,
    must_refit: bool = False,
    replay: str = "refit",
    max_images: int = 10,
) -> TrainingPlan:
    config = TrainingConfig.model_validate({"replay": replay, "max_images": max_images})
    rows = {row.id: row for row in live}
    return plan_training(
        new,
        [Learnt(row.id, row.label) for row in live],
        config,
        seed=3,
        must_refit=must_refit,
        read=lambda chosen: [rows[one] for one in chosen],
    )


def test_refits_from_the_base_on_everything_while_it_fits() -> None:
    new, live = corrections(4, prefix="n"), corrections(6, prefix="e")
    found = plan(new, live)
    assert (ids(found.fitted), found.stacked) == (ids([*new, *live]), False)
    assert not found.asked


def test_a_new_correction_of_the_live_lineage_counts_once() -> None:
    new = corrections(4, prefix="n")
    assert ids(plan(new, new).fitted) == ids(new)


def test_beyond_the_bound_draws_earlier_ones_by_class_and_stacks() -> None:
    new, live = corrections(4, prefix="n"), corrections(30, prefix="e", classes=3)
    found = plan(new, live)
    assert found.stacked
    assert len(found.fitted) == 10
    assert Counter(each.label for each in found.earlier) == {
        "label 0": 2,
        "label 1": 2,
        "label 2": 2,
    }
    assert sorted(ids(found.judged)) == sorted(ids([*new, *live]))
    assert ids(found.judged[:10]) == ids(found.fitted)


def test_new_corrections_are_all_taken_however_many() -> None:
    found = plan(corrections(14, prefix="n"), corrections(2, prefix="e"))
    assert (len(found.new), len(found.earlier), len(found.asked)) == (14, 0, 2)
    assert found.stacked


def test_stacking_without_replay_fits_only_the_new_and_asks_the_others() -> None:
    found = plan(corrections(2, prefix="n"), corrections(3, prefix="e"), replay="stack")
    assert (ids(found.fitted), found.stacked) == (["n0", "n1"], True)
    assert ids(found.asked) == ["e0", "e1", "e2"]


@pytest.mark.parametrize("replay", ["refit", "stack"])
def test_what_must_be_forgotten_is_never_stacked_upon(replay: str) -> None:
    found = plan(
        corrections(2, prefix="n"), corrections(30, prefix="e"), must_refit=True, replay=replay
    )
    assert not found.stacked
    assert len(found.fitted) == 32


def test_the_draw_is_the_same_every_time() -> None:
    new, live = corrections(1, prefix="n"), corrections(30, prefix="e", classes=4)
    assert ids(plan(new, live).fitted) == ids(plan(new, live).fitted)


def test_the_task_guards_half_of_each_control_set(tmp_path: Path) -> None:
    base, store, cache = tiny_encoder(), ArtifactStore(tmp_path), TextFeatureCache(1000)
    reader = ImageReader(store, base.preprocessing)
    stored = {
        name: {store.put(picture(label, number)): label for label in COLOURS}
        for number, name in enumerate(("colours", "lights"))
    }
    templates = {"colours": ("a {}.",), "lights": ("the light of a {}.", "{}!")}
    controls = ControlLoader(base, reader, cache, EVERYDAY, Budgets(0.5, 8.0)).load(
        [
            ControlPlan(name, tuple(COLOURS), templates[name], plan_images(images), None)
            for name, images in stored.items()
        ],
        guard_images=10,
        seed=0,
    )
    correction = Correction(id="one", label="apple", image_sha256=next(iter(stored["colours"])))
    fitted = TrainingPlan((correction,), (), (), stacked=False)
    asker = Asker(LanguageModel(base, None, "cpu", "fp32"), reader)
    builder = TrainingSetBuilder(reader, cache, EVERYDAY.labels, asker)
    built = builder.build(fitted, base, {}, controls)

    everything = reader.read([Wanted(sha, name) for name in stored for sha in sorted(stored[name])])
    seen = torch.cat([each.seen for each in controls.sets if each.seen is not None])
    rows = seen.nonzero()[:, 0]
    assert rows.numel() == 2  # half of three, twice
    for task in (built.task, built.judged):
        assert torch.equal(task.guard_pixels, everything[rows])
        assert task.guard_features is not None
        torch.testing.assert_close(task.guard_features, base.embed_images(everything[rows]))
    for prompts, texts in (
        (built.task.prompts, built.task.text_features),
        *((each.prompts, each.text_features) for each in controls.sets),
    ):
        assert prompts is not None
        torch.testing.assert_close(prompt_features(base, prompts, TextFeatureCache(100)), texts)

    moved = base.merged_deltas({"text_projection": Dense(torch.eye(EMBEDDING))}, label="moved")
    anew = builder.build(fitted, moved, {}, controls)
    assert anew.task.prompts is not None
    expected = prompt_features(moved, anew.task.prompts, TextFeatureCache(100))
    torch.testing.assert_close(anew.task.text_features, expected)
    assert not torch.allclose(anew.task.text_features, built.task.text_features, atol=1e-3)
