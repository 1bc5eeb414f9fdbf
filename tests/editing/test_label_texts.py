from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editing import label_texts
from editing.label_texts import MovingTexts
from editing.objective import Objective
from editing.text import TextFunction
from encoder.clip import Encoder
from encoder.errors import TemplateInvalid
from encoder.prompts import Prompt
from tests.support.edit_task import LABELS, PROMPTS, quick_config, read_task
from tests.support.tiny_encoder import tiny_encoder

NAME = "transformer.resblocks.0.mlp.c_fc.weight"


def moving(encoder: Encoder, prompts: tuple[Prompt, ...] = PROMPTS) -> MovingTexts:
    task = read_task(encoder, [0])
    function = TextFunction(encoder, precision="fp32")
    return MovingTexts(function, encoder.tokenizer, prompts, task.text_features)


def shaken(encoder: Encoder, seed: int = 0) -> dict[str, Tensor]:
    weight = encoder.model.get_parameter(NAME).detach()
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return {NAME: (weight + 0.3 * noise).requires_grad_()}


def quiet() -> None:
    """Tells nobody."""


def rows(*chosen: int) -> label_texts.Choose:
    return lambda _: torch.tensor(chosen)


def test_a_step_reads_what_is_chosen_and_takes_the_rest_as_it_was() -> None:
    encoder = tiny_encoder()
    texts, weights = moving(encoder), shaken(encoder)
    before = read_task(encoder, [0]).text_features
    read = texts.read(weights, rows(4, 1))
    moved = (read - before).abs().amax(dim=1) > 1e-4
    assert moved.tolist() == [row in (1, 4) for row in range(LABELS)]
    (gradient,) = torch.autograd.grad(read[[1, 4]].square().sum() + read[1, 0], weights[NAME])
    assert bool(gradient.any())
    later = shaken(encoder, seed=1)
    again = texts.read(later, rows(0))
    assert torch.equal(again[[1, 4]], read[[1, 4]])
    (gradient,) = torch.autograd.grad(again[1:].sum(), later[NAME])
    assert not bool(gradient.any())


def test_whole_reads_every_label_and_sends_all_gradients_at_its_end() -> None:
    encoder = tiny_encoder()
    texts, weights = moving(encoder), shaken(encoder)
    read = texts.read(weights, rows(*range(LABELS)))
    factor = torch.randn(read.shape, generator=torch.Generator().manual_seed(2))
    (expected,) = torch.autograd.grad((read * factor).sum(), weights[NAME])
    told: list[None] = []
    with texts.whole(weights, lambda: told.append(None)):
        for part in (slice(0, 2), slice(2, None)):  # as batches do, one after the other
            (texts.read(weights, rows()) * factor)[part].sum().backward()
        assert weights[NAME].grad is None
    assert weights[NAME].grad is not None
    torch.testing.assert_close(weights[NAME].grad, expected)
    assert told


def test_what_stops_within_whole_leaves_it() -> None:
    encoder = tiny_encoder()
    texts, weights = moving(encoder), shaken(encoder)

    def stop() -> None:
        with texts.whole(weights, quiet):
            texts.read(weights, rows()).sum().backward()
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert weights[NAME].grad is None
    assert texts.read(weights, rows(0)).grad_fn is not None


def test_more_texts_than_go_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder()
    weights = shaken(encoder)
    whole = moving(encoder).read(weights, rows(*range(LABELS)))
    (expected,) = torch.autograd.grad(whole[:, 0].sum(), weights[NAME])
    monkeypatch.setattr(label_texts, "TEXTS_AT_ONCE", 3)
    parts = moving(encoder).read(weights, rows(*range(LABELS)))
    torch.testing.assert_close(parts, whole)
    (gradient,) = torch.autograd.grad(parts[:, 0].sum(), weights[NAME])
    torch.testing.assert_close(gradient, expected)


def test_a_template_without_a_slot_is_refused() -> None:
    with pytest.raises(TemplateInvalid):
        moving(tiny_encoder(), (*PROMPTS[:-1], ("cat", ("a cat",))))


@pytest.mark.parametrize(("most", "expected"), [(1, 2), (2, 2), (4, 4), (100, LABELS)])
def test_own_labels_are_in_play_and_the_nearest_others_up_to_the_bound(
    most: int, expected: int
) -> None:
    encoder = tiny_encoder()
    task = read_task(encoder, [3, 5, 3])
    objective = Objective(encoder, task, quick_config(text_labels=most))
    features, batch = encoder.embed_images(task.pixels), torch.arange(3)
    chosen = objective.in_play(features, batch, task.text_features)
    assert len(set(chosen.tolist())) == len(chosen) == expected
    assert {3, 5} <= set(chosen.tolist())
    nearness = (features @ task.text_features.T).amax(dim=0)
    others = [row for row in nearness.argsort(descending=True).tolist() if row not in (3, 5)]
    assert set(chosen.tolist()) == {3, 5, *others[: expected - 2]}


def test_an_in_batch_loss_needs_the_batchs_own_labels_only() -> None:
    encoder = tiny_encoder()
    task = read_task(encoder, [3, 5, 3])
    objective = Objective(encoder, task, quick_config(loss="contrastive"))
    features = encoder.embed_images(task.pixels)
    chosen = objective.in_play(features, torch.arange(3), task.text_features)
    assert chosen.tolist() == [3, 5]


def test_labels_that_no_image_of_the_batch_allows_are_not_in_play() -> None:
    encoder = tiny_encoder()
    task = read_task(encoder, [0, 1])
    task.allowed[:, 4:] = False
    objective = Objective(encoder, task, quick_config())
    features = encoder.embed_images(task.pixels)
    chosen = objective.in_play(features, torch.arange(2), task.text_features)
    assert sorted(chosen.tolist()) == [0, 1, 2, 3]
