"""What must hold for every method on every tower layout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from editing.errors import VanishingGradient
from editing.methods import METHODS, fit
from editing.methods.fitting import Start, Subject
from editing.progress import silent
from editing.vision import VisionFunction
from encoder.adapter import Adapter, Provenance
from encoder.deltas import Delta, LowRank, Sparse
from tests.support.edit_task import edit_task, quick_method
from tests.support.tiny_encoder import LAYOUTS, random_pixels, state_bytes, tiny_encoder

EVERY_METHOD = pytest.mark.parametrize("method", [*METHODS, "lorsu code-parity"])
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
SINGLE_CLASS = pytest.mark.parametrize("targets", [[3], [3] * 6], ids=["one image", "one class"])
TARGETS = [0, 1, 2, 3, 4, 0, 1, 2]


def as_bytes(deltas: dict[str, Delta]) -> dict[str, bytes]:
    return {
        f"{name}.{part}": tensor.numpy().tobytes()
        for name, delta in deltas.items()
        for part, tensor in delta.tensors().items()
    }


@EVERY_METHOD
@EVERY_LAYOUT
def test_no_steps_change_nothing(layout: str, method: str) -> None:
    encoder = tiny_encoder(layout)
    fitted = fit(encoder, edit_task(TARGETS), quick_method(method, epochs=0), seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    assert fitted.history.steps == 0
    assert fitted.parameters > 0
    assert state_bytes(edited.model) == state_bytes(encoder.model)


@EVERY_METHOD
@EVERY_LAYOUT
def test_what_was_not_selected_stays_bit_identical(layout: str, method: str) -> None:
    encoder = tiny_encoder(layout)
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    fitted = fit(encoder, edit_task(TARGETS), quick_method(method), seed=0)
    after = encoder.merged_deltas(fitted.deltas, label="edited").model.state_dict()
    assert fitted.deltas.keys() <= before.keys()
    assert all(name.startswith("visual.") for name in fitted.deltas)
    for name, weight in before.items():
        moved = after[name] != weight
        assert torch.equal(encoder.model.state_dict()[name], weight)
        match fitted.deltas.get(name):
            case None:
                assert not bool(moved.any())
            case Sparse(mask=mask):
                assert not bool(moved[~mask].any())
                assert bool(moved[mask].all())
            case LowRank(rows=rows) if rows is not None:
                outside = torch.ones(len(weight), dtype=torch.bool)
                outside[rows] = False
                assert not bool(moved[outside].any())
                assert bool(moved[rows].any())
            case _:
                assert bool(moved.any()), name


@EVERY_METHOD
@EVERY_LAYOUT
def test_a_stored_edit_is_the_one_that_was_trained(layout: str, method: str) -> None:
    encoder = tiny_encoder(layout)
    fitted = fit(encoder, edit_task(TARGETS), quick_method(method, epochs=3), seed=0)
    origin = Provenance(
        method=method,
        config={},
        seed=0,
        parent=0,
        stacked_on=encoder.chain,
        base_name=encoder.name,
        base_pretrained=None,
        base_digest=encoder.base_digest,
    )
    loaded = Adapter.from_bytes(Adapter(fitted.deltas, origin).to_bytes())
    stored = encoder.merged([loaded])
    judged = encoder.merged_deltas(fitted.deltas, label="edited")
    assert state_bytes(stored.model) == state_bytes(judged.model)
    assert state_bytes(stored.model) != state_bytes(encoder.model)


@EVERY_METHOD
@EVERY_LAYOUT
def test_its_features_in_training_are_those_of_the_merged_encoder(layout: str, method: str) -> None:
    encoder, task = tiny_encoder(layout), edit_task(TARGETS)
    config = quick_method(method)
    selection = fit(encoder, task, quick_method(method, epochs=0), seed=0).selection
    vision = VisionFunction(encoder, precision="fp32")
    generator = torch.Generator().manual_seed(1)
    subject = Subject(encoder, lambda _: {}, task.guard_pixels)
    edited = config.prepare(selection, Start(subject, vision.weight, 1.0, generator))
    with torch.no_grad():
        for tensors, _ in edited.groups():
            for tensor in tensors:
                tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    pixels = random_pixels(3)
    merged = encoder.merged_deltas(edited.extract(), label="shaken").embed_images(pixels)
    torch.testing.assert_close(vision(pixels, edited.weights()), merged, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(merged, encoder.embed_images(pixels), atol=1e-3)


@EVERY_METHOD
@EVERY_LAYOUT
def test_the_same_seed_gives_the_same_bytes(layout: str, method: str) -> None:
    encoder, task = tiny_encoder(layout), edit_task(TARGETS)
    varied = METHODS["lorsu"]().augmentation
    config = quick_method(method, epochs=2, batch_size=4, augmentation=varied, precision="bf16")
    first, again, other = (
        as_bytes(fit(encoder, task, config, seed=seed).deltas) for seed in (5, 5, 6)
    )
    assert first == again
    assert first.keys() == other.keys()
    assert first != other


@EVERY_METHOD
@EVERY_LAYOUT
def test_the_loss_falls_and_corrections_become_right(layout: str, method: str) -> None:
    encoder, task = tiny_encoder(layout), edit_task(TARGETS)
    fitted = fit(encoder, task, quick_method(method, epochs=60), seed=0)
    assert fitted.history.losses[-1] < 0.3 * fitted.history.losses[0]
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    answers = (edited.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    assert torch.equal(answers, task.targets)


@EVERY_METHOD
@SINGLE_CLASS
def test_a_job_of_a_single_class_works(method: str, targets: list[int]) -> None:
    encoder, task = tiny_encoder(), edit_task(targets)
    fitted = fit(encoder, task, quick_method(method, epochs=60), seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    answers = (edited.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    assert torch.equal(answers, task.targets)


@EVERY_METHOD
@SINGLE_CLASS
def test_the_contrastive_loss_refuses_a_job_of_a_single_class(
    method: str, targets: list[int]
) -> None:
    with pytest.raises(VanishingGradient, match="contrastive"):
        fit(tiny_encoder(), edit_task(targets), quick_method(method, loss="contrastive"), seed=0)


@EVERY_METHOD
def test_the_contrastive_loss_trains_a_job_of_several_classes(method: str) -> None:
    config = quick_method(method, loss="contrastive", batch_size=4, epochs=60)
    fitted = fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    assert fitted.history.losses[-1] < 0.5 * fitted.history.losses[0]


@EVERY_METHOD
def test_a_vocabulary_of_one_label_teaches_nothing(method: str) -> None:
    task = edit_task([2, 2])
    allowed = torch.zeros_like(task.allowed)
    allowed[:, 2] = True
    with pytest.raises(VanishingGradient, match="no label competes"):
        fit(tiny_encoder(), replace(task, allowed=allowed), quick_method(method), seed=0)


@EVERY_METHOD
def test_the_summary_is_plain_and_complete(method: str) -> None:
    fitted = fit(tiny_encoder(), edit_task(TARGETS), quick_method(method, epochs=2), seed=0)
    summary = fitted.summary
    assert summary["steps"] == len(summary["losses"]) == 2
    assert summary["parameters"] == fitted.parameters > 0
    selected = summary["selection"]
    masks = [delta for delta in fitted.deltas.values() if isinstance(delta, Sparse)]
    assert selected["fc1_entries"] == sum(delta.values.numel() for delta in masks)
    assert selected["dense_weights"] == len(fitted.selection.dense)
    assert len(fitted.deltas) == len(fitted.selection.rows) + len(masks) + selected["dense_weights"]


@pytest.mark.parametrize("method", ["full_finetune", "layernorm", "lora"])
def test_only_methods_that_choose_by_gradient_look_at_it_first(method: str) -> None:
    phases: list[str] = []
    task = edit_task(TARGETS)

    def watch(phase: str, step: int, steps: int, loss: float | None) -> None:
        phases.append(phase)
        silent(phase, step, steps, loss)

    fit(tiny_encoder(), task, quick_method(method, epochs=1), seed=0, progress=watch)
    assert set(phases) == {"training"}
    fit(tiny_encoder(), task, quick_method("spu", epochs=1), seed=0, progress=watch)
    assert set(phases) == {"scoring", "training"}
