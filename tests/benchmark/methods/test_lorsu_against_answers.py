"""What competes where present answers are pushed away too."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmark.methods.lorsu_against_answers import LorsuAgainstAnswersConfig
from editing.methods import fit
from tests.support.edit_task import edit_task, quick_config, quick_method
from tests.support.tiny_encoder import tiny_encoder


def test_labels_of_the_task_and_present_answers_compete() -> None:
    encoder, task = tiny_encoder(), edit_task([1, 1, 2, 2])
    answers = (encoder.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    involved = {1, 2} | set(answers.tolist())
    assert involved > {1, 2}
    competing = LorsuAgainstAnswersConfig().competing(encoder, task)
    assert set(competing.nonzero()[:, 1].tolist()) == involved
    own = torch.zeros_like(task.allowed)
    own[:, :3] = True
    competing = LorsuAgainstAnswersConfig().competing(encoder, replace(task, allowed=own))
    assert set(competing.nonzero()[:, 1].tolist()) == involved & {0, 1, 2}


def test_labels_of_other_updates_are_left_alone() -> None:
    encoder, task = tiny_encoder(), edit_task([1, 1, 2])
    answers = (encoder.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    involved = set(answers.tolist()) | {1, 2}
    uninvolved = next(label for label in range(6) if label not in involved)
    moved = task.text_features.clone()
    moved[uninvolved] = -moved[uninvolved]
    other = replace(task, text_features=moved)
    quick = quick_method("lorsu_against_answers", epochs=2)
    for config, same in ((quick, True), (quick_config(epochs=2), False)):
        first, second = (
            fit(encoder, each, config, seed=0).history.losses for each in (task, other)
        )
        assert (first == second) is same
