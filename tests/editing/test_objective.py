"""Which labels compete in training, and which in judging."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing import losses
from editing.errors import VanishingGradient
from editing.fewshot import EditTask
from editing.methods import fit
from editing.negatives import own_labels
from editing.objective import Objective
from encoder.clip import Encoder
from tests.support.edit_task import edit_task, quick_config
from tests.support.tiny_encoder import tiny_encoder


def answers(encoder: Encoder, task: EditTask) -> Tensor:
    """long [N], the best of all labels."""
    return (encoder.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)


def test_own_labels_push_no_other_label_away() -> None:
    encoder, task = tiny_encoder(), edit_task([1, 1, 2, 2])
    others = [label for label in range(task.text_features.shape[0]) if label not in (1, 2)]
    assert set(answers(encoder, task).tolist()) & set(others)  # which would lead
    moved = task.text_features.clone()
    moved[others] = -moved[others]
    other = replace(task, text_features=moved)
    config = quick_config(negatives="own-labels", epochs=2)
    first, second = (fit(encoder, each, config, seed=0).history.losses for each in (task, other))
    assert first == second
    assert own_labels(encoder, task).nonzero()[:, 1].tolist() == [1, 2] * 4


def test_an_image_alone_with_its_label_competes_with_the_strongest_other() -> None:
    encoder, task = tiny_encoder(), edit_task([1, 1, 1])
    competing = own_labels(encoder, task)
    scores = encoder.embed_images(task.pixels) @ task.text_features.T
    scores[:, 1] = -torch.inf
    for row, rival in enumerate(scores.argmax(dim=1).tolist()):
        assert competing[row].nonzero()[:, 0].tolist() == sorted([1, rival])
    fitted = fit(encoder, task, quick_config(negatives="own-labels"), seed=0)
    assert fitted.history.losses[-1] < fitted.history.losses[0]


def test_no_label_that_is_not_allowed_becomes_a_rival() -> None:
    encoder, task = tiny_encoder(), edit_task([1, 1, 1])
    own = torch.zeros_like(task.allowed)
    own[:, 1] = True
    with pytest.raises(VanishingGradient):
        fit(encoder, replace(task, allowed=own), quick_config(negatives="own-labels"), seed=0)


@pytest.mark.parametrize("negatives", ["own-labels", "vocabulary"])
def test_right_is_what_leads_all_that_an_image_may_be(negatives: str) -> None:
    encoder, task = tiny_encoder(), edit_task([1, 1, 2, 2])
    objective = Objective(encoder, task, quick_config(negatives=negatives))
    features, batch = encoder.embed_images(task.pixels), torch.arange(4)
    whole = losses.masked_logits(features, task.text_features, task.allowed, encoder.logit_scale)
    margins = objective.margins(features, batch, task.text_features)
    assert torch.equal(margins, losses.margins(whole, task.targets))
    assert (margins > 0).tolist() == (answers(encoder, task) == task.targets).tolist()
