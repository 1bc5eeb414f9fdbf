"""Edits by the likelihood of a tiny vision-language model's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from editing.answer_lesson import AnswerLesson
from editing.answer_task import AnswerTask
from editing.errors import EditCancelled, InvalidTask, NoImages
from editing.methods import METHODS, fit
from editing.vision import VisionFunction
from encoder.deltas import LowRank, Sparse
from encoder.vlm.answering import answer_likelihood, score_options
from encoder.vlm.errors import PromptTooLong
from encoder.vlm.model import VisionLanguageModel
from tests.editing.methods.test_fitting import as_bytes
from tests.support.answer_task import QUESTION, answer_task, answers_only, preferred
from tests.support.edit_task import edit_task, quick_config, quick_method
from tests.support.tiny_encoder import random_pixels, state_bytes, tiny_encoder

EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


@EVERY_METHOD
def test_the_preferred_answers_become_the_right_ones(
    tiny_vlm: VisionLanguageModel, method: str
) -> None:
    encoder = tiny_encoder()
    answers = answer_task(tiny_vlm, encoder)
    assert not set(preferred(tiny_vlm, encoder, answers)) & set(answers.right)
    config = quick_method(method, epochs=80, stop_margin=0.5)
    fitted = fit(encoder, answers_only(answers), config, seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    assert tuple(preferred(tiny_vlm, edited, answers)) == answers.right
    assert fitted.history.losses[-1] < fitted.history.losses[0]


@EVERY_METHOD
def test_what_was_not_selected_stays_bit_identical(
    tiny_vlm: VisionLanguageModel, method: str
) -> None:
    encoder = tiny_encoder()
    before = state_bytes(encoder.model)
    decoder, connector = state_bytes(tiny_vlm.decoder), state_bytes(tiny_vlm.connector)
    task = answers_only(answer_task(tiny_vlm, encoder))
    fitted = fit(encoder, task, quick_method(method, epochs=3), seed=0)
    after = encoder.merged_deltas(fitted.deltas, label="edited").model.state_dict()
    assert state_bytes(encoder.model) == before
    assert state_bytes(tiny_vlm.decoder) == decoder
    assert state_bytes(tiny_vlm.connector) == connector
    for name, weight in encoder.model.state_dict().items():
        still = after[name] == weight
        match fitted.deltas.get(name):
            case None:
                assert bool(still.all())
            case Sparse(mask=mask):
                assert bool(still[~mask].all())
            case LowRank(rows=rows) if rows is not None:
                outside = torch.ones(len(weight), dtype=torch.bool)
                outside[rows] = False
                assert bool(still[outside].all())


@pytest.mark.parametrize("method", ["lorsu", "spu"])
def test_only_blocks_that_the_model_reads_are_chosen_from(
    tiny_vlm: VisionLanguageModel, method: str
) -> None:
    encoder = tiny_encoder()
    task = answers_only(answer_task(tiny_vlm, encoder))
    selection = fit(encoder, task, quick_method(method, epochs=0), seed=0).selection
    assert tiny_vlm.reading.blocks == 1 < len(encoder.tower.blocks)
    blocks = {name.split("resblocks.")[1][0] for name in (*selection.rows, *selection.masks)}
    assert blocks == {"0"}
    assert set(selection.heads) <= {0}


def test_the_gradient_is_that_of_finite_differences(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    vision = VisionFunction(encoder, precision="fp32")
    answers = answer_task(tiny_vlm, encoder)
    lesson = AnswerLesson(vision, answers, quick_config())
    every = torch.arange(len(answers))
    block = encoder.tower.blocks[0]
    for name in (block.attention[0], block.fc1[0], "visual.conv1.weight"):
        weight = vision.weight(name).clone().requires_grad_()
        torch.autograd.backward(lesson.outcome({name: weight}, answers.pixels, every).loss)
        gradient = weight.grad
        assert gradient is not None
        direction = gradient / gradient.norm()
        step = 1e-2
        with torch.no_grad():
            above, below = (
                lesson.outcome({name: weight + s * direction}, answers.pixels, every).loss
                for s in (step, -step)
            )
        slope = float(above - below) / (2 * step)
        assert slope == pytest.approx(float(gradient.norm()), rel=2e-2)


def test_the_loss_is_the_papers_with_a_softmax_over_wrong_answers(
    tiny_vlm: VisionLanguageModel,
) -> None:
    encoder = tiny_encoder()
    answers = answer_task(tiny_vlm, encoder, images=1)
    images = tiny_vlm.image_tokens(encoder, answers.pixels)
    prompt = tiny_vlm.question(QUESTION, images[0])
    ((right, wrong),) = score_options(tiny_vlm, [prompt], [(answers.right[0], *answers.wrong[0])])
    perplexity = -right.mean
    margin = torch.tensor(right.log_likelihood - wrong.log_likelihood)
    vision, first = VisionFunction(encoder, precision="fp32"), torch.tensor([0])
    for task, expected in (
        (answers, perplexity + float(torch.nn.functional.softplus(-margin))),
        (replace(answers, wrong=((),)), perplexity),
    ):
        outcome = AnswerLesson(vision, task, quick_config()).outcome({}, task.pixels, first)
        assert float(outcome.loss) == pytest.approx(expected, rel=1e-4)
        if task is answers:
            torch.testing.assert_close(outcome.margins, margin[None], rtol=1e-3, atol=1e-3)


def test_without_wrong_answers_the_right_one_becomes_likely(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    answers = answer_task(tiny_vlm, encoder, images=1, wrong=False)
    before, after = [], []
    config = quick_config(epochs=100, heads=4, fc1_fraction=0.5, guard_weight=0)
    fitted = fit(encoder, answers_only(answers), config, seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    for version, found in ((encoder, before), (edited, after)):
        prompt = tiny_vlm.question(QUESTION, tiny_vlm.image_tokens(version, answers.pixels)[0])
        found.append(float(answer_likelihood(tiny_vlm, [prompt.embeddings], answers.right)))
    assert after[0] > before[0] + 1


def test_labels_and_answers_are_learnt_together(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    answers = answer_task(tiny_vlm, encoder)
    task = replace(edit_task([0, 1, 2, 3]), answers=answers)
    config = quick_config(epochs=120, heads=2, fc1_fraction=0.3, stop_margin=1, landing=0)
    fitted = fit(encoder, task, config, seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    labels = (edited.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    assert torch.equal(labels, task.targets)
    assert tuple(preferred(tiny_vlm, edited, answers)) == answers.right
    assert fitted.history.stopped_early


def test_training_goes_on_while_either_is_wrong(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    answers = answer_task(tiny_vlm, encoder)
    preferred_now = tuple(each[0] for each in answers.wrong)
    already = replace(answers, right=preferred_now, wrong=tuple((r,) for r in answers.right))
    timid = {"rounds": 3, "epochs": 2, "learning_rate": 1e-6, "fc1_learning_rate": 1e-6}
    config = quick_config(stop_margin=100, **timid)
    steps = [
        fit(encoder, answers_only(each), config, seed=0).history.steps
        for each in (already, answers)
    ]
    assert steps == [2, 6]


@pytest.mark.parametrize(("new", "rounds"), [([0, 1, 2], 1), ([3], 3), ([2, 3], 3), ([], 1)])
def test_training_goes_on_while_new_answers_are_wrong(
    new: list[int], rounds: int, tiny_vlm: VisionLanguageModel
) -> None:
    """Three of four are right from the start, and nothing is learnt."""
    encoder = tiny_encoder()
    asked = answer_task(tiny_vlm, encoder, images=4)
    right = (*(each[0] for each in asked.wrong[:3]), asked.right[3])
    wrong = (*((each,) for each in asked.right[:3]), asked.wrong[3])
    marks = torch.zeros(4, dtype=torch.bool)
    marks[new] = True
    task = answers_only(replace(asked, right=right, wrong=wrong, new=marks))
    idle = {"learning_rate": 1e-9, "fc1_learning_rate": 1e-9, "epochs": 2, "enough_right": 0.75}
    history = fit(encoder, task, quick_config(rounds=3, **idle), seed=0).history
    assert history.steps == 2 * rounds


def test_the_weights_that_matter_for_the_answers_are_chosen_too(
    tiny_vlm: VisionLanguageModel,
) -> None:
    encoder, labels = tiny_encoder(), edit_task([0, 1, 2, 3])
    answers = answer_task(tiny_vlm, encoder)
    selections = [
        fit(encoder, task, quick_config(epochs=0, answer_weight=weight), seed=0).selection
        for task, weight in (
            (labels, 1),
            (replace(labels, answers=answers), 0),
            (replace(labels, answers=answers), 1000),
            (answers_only(answers), 1),
        )
    ]
    name = encoder.tower.blocks[0].fc1[0]
    alone, weightless, heavy, only = (each.masks[name] for each in selections)
    assert torch.equal(alone, weightless)
    assert not torch.equal(alone, only)
    agreement = float((heavy & only).sum() / only.sum())
    assert agreement > float((alone & only).sum() / only.sum())


def test_the_guard_keeps_features_where_they_were(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    task = answers_only(answer_task(tiny_vlm, encoder), guard=8)
    before = encoder.embed_images(task.guard_pixels)
    drifts = []
    for weight in (0, 100):
        config = quick_config(epochs=40, stop_margin=100, guard_weight=weight)
        deltas = fit(encoder, task, config, seed=0).deltas
        after = encoder.merged_deltas(deltas, label="edited").embed_images(task.guard_pixels)
        drifts.append(float((after - before).square().sum(1).mean()))
    assert drifts[1] < 0.5 * drifts[0]


def test_a_task_of_answers_needs_no_guard(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    task = answers_only(answer_task(tiny_vlm, encoder), guard=0)
    assert fit(encoder, task, quick_config(epochs=2), seed=0).history.steps == 2


def test_the_same_seed_gives_the_same_bytes(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    task = replace(edit_task([0, 1]), answers=answer_task(tiny_vlm, encoder, images=4))
    varied = METHODS["lorsu"]().augmentation
    config = quick_config(epochs=3, answer_batch_size=2, augmentation=varied, precision="bf16")
    first, again, other = (
        as_bytes(fit(encoder, task, config, seed=seed).deltas) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_steps_follow_questions_as_they_follow_images() -> None:
    config = quick_config(epochs=4, batch_size=16, answer_batch_size=8, min_steps=10)
    assert config.steps_for(0, 80) == config.steps_for(160) == config.steps_for(16, 80) == 40
    assert config.steps_for(0, 3) == 10
    assert config.rate_for(0, 3) < config.rate_for(0, 80) == 1


def test_progress_covers_questions_and_can_cancel(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    task = answers_only(answer_task(tiny_vlm, encoder, images=4))
    seen: list[str] = []

    def watch(phase: str, step: int, steps: int, loss: float | None) -> None:
        seen.append(f"{phase} {step}/{steps}")
        if loss is not None:  # of the first step
            raise EditCancelled

    config = quick_config(answer_batch_size=2, epochs=2)
    with pytest.raises(EditCancelled):
        fit(encoder, task, config, seed=0, progress=watch)
    assert seen == ["scoring 0/2", "scoring 1/2", "training 0/4", "training 1/4"]


def test_a_question_that_is_too_long_is_named_as_such(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    answers = replace(answer_task(tiny_vlm, encoder, images=1), questions=("why? " * 500,))
    with pytest.raises(PromptTooLong):
        fit(encoder, answers_only(answers), quick_config(), seed=0)


def test_a_task_whose_parts_do_not_fit_is_refused(tiny_vlm: VisionLanguageModel) -> None:
    pixels = random_pixels(1)
    one = ("what?",)

    def task(**changes: object) -> AnswerTask:
        parts = {"pixels": pixels, "questions": one, "right": ("a",), "wrong": (("b",),)}
        return AnswerTask(tiny_vlm, **{**parts, **changes})  # type: ignore[arg-type]

    assert len(task()) == 1
    for changes, reason in (
        ({"questions": (), "right": (), "wrong": (), "pixels": pixels[:0]}, "no questions"),
        ({"right": ("a", "b")}, "2 answers for 1 question"),
        ({"right": (" ",)}, "empty"),
        ({"wrong": (("",),)}, "empty"),
        ({"wrong": (("a ",),)}, "right answer .* a wrong one"),
        ({"new": torch.ones(2, dtype=torch.bool)}, "marks of new ones for 1 question"),
        ({"pixels": pixels.float()}, "uint8"),
        ({"pixels": pixels[:, :, :10]}, "of side"),
    ):
        with pytest.raises(InvalidTask, match=reason):
            task(**changes)


def test_a_task_of_nothing_is_refused(tiny_vlm: VisionLanguageModel) -> None:
    task = answers_only(answer_task(tiny_vlm, tiny_encoder(), images=1))
    with pytest.raises(NoImages):
        replace(task, answers=None)
