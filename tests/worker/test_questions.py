"""Edit jobs where a vision-language model answers: real files, a tiny encoder, a tiny model."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from encoder.clip import load_encoder
from encoder.vlm.answering import Question, answer_questions
from registry.artifacts import keep_artifact
from registry.control_questions import NewControlQuestion, add_control_questions
from registry.control_sets import put_control_set
from registry.corrections import correction_ids_of, get_correction
from registry.matching import NewCorrection
from registry.session import reading, transaction
from registry.submissions import submit
from registry.tables import Correction, EditJob
from tests.support.running_worker import COLOURS, QUICK, Desk, Here, open_desk, open_shop, picture
from tests.support.tiny_vlm import tiny_vlm_folder
from worker.versions import load_version

WHAT = "What is this?"
ANSWERS = ("a stop sign", "a cat", "yes", "no")


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """A worker in this process with a model over its encoder."""
    threads = torch.get_num_threads()
    with open_desk(tmp_path, VLM=str(tmp_path / "vlm")) as desk:
        tiny_vlm_folder(tmp_path / "vlm", load_encoder(desk.settings["EMEND_ENCODER"]))
        with open_shop(desk, monkeypatch) as workshop:
            yield Here(desk, workshop)
    torch.set_num_threads(threads)


def keep(desk: Desk, session: Any, shown: str, number: int) -> str:
    data = picture(shown, number)
    sha256 = desk.store.put(data)
    keep_artifact(
        session, desk.store, sha256, size=len(data), media_type="image/png", now=datetime.now(UTC)
    )
    return sha256


def answer(
    desk: Desk,
    pictures: Sequence[tuple[str, int]],
    config: dict[str, Any] | None = None,
    **said: Any,
) -> str:
    """Corrections of answers that are due at once: the job's id."""
    now = datetime.now(UTC)
    with transaction(desk.engine) as session:
        items = [NewCorrection(keep(desk, session, *each), **said) for each in pictures]
        return submit(
            session,
            items,
            replace=False,
            base_digest=desk.base_digest,
            batch=1,
            wait=timedelta(0),
            now=now,
            config={**QUICK, **(config or {})},
        ).edit_job.id


def quiz(
    desk: Desk, *, count: int = 6, answer: str | None = None, budget: float | None = None
) -> None:
    """A control set that asks what each of a few pictures is."""
    with transaction(desk.engine) as session:
        put_control_set(session, "quiz", label_set=None, budget=budget, now=datetime.now(UTC))
        asked = [
            NewControlQuestion(keep(desk, session, label, 50 + number), WHAT, answer, ANSWERS)
            for label in COLOURS
            for number in range(count // 3)
        ]
        add_control_questions(session, "quiz", asked)


def correction(desk: Desk, job: EditJob) -> Correction:
    with reading(desk.engine) as session:
        [first, *_] = correction_ids_of(session, [job.id])[job.id]
        return get_correction(session, first)


def said(here: Here, version: int, shown: tuple[str, int], options: tuple[str, ...]) -> str:
    """What `/vqa` would answer over a version."""
    vlm = here.workshop.questions.model.needed("a test")
    encoder = load_version(here.workshop, version)
    pixels = vlm.pixels(here.workshop.base, Image.open(io.BytesIO(picture(*shown))))
    tokens = vlm.image_tokens(encoder, pixels[None])
    [reply] = answer_questions(vlm, [Question(WHAT, tokens[0], options)])
    return reply.answer


def test_an_edit_is_judged_by_the_models_answers_to_control_questions(asking: Here) -> None:
    quiz(asking.desk, budget=100)
    job = asking.edit([("apple", 1), ("leaf", 1)])
    assert job.status == "succeeded"
    assert job.report is not None
    [images, questions] = job.report["controls"]
    assert (images["name"], images["kind"]) == ("bundled photographs", "classification")
    assert (questions["name"], questions["kind"], questions["n"]) == ("quiz", "vqa", 6)
    assert questions["before"] == 100
    assert questions["after"] == pytest.approx(100 - questions["flips"])
    facts = job.report["vlm"]
    assert (facts["name"], facts["questions"]) == ("vlm", 6)
    assert 0 < facts["unreached"] < job.report["training"]["parameters"]  # of the last block


def test_an_edit_that_would_break_answers_is_weakened_or_refused(asking: Here) -> None:
    strong = {"learning_rate": 0.1, "fc1_learning_rate": 0.1, "guard_weight": 0, "rounds": 2}
    quiz(asking.desk, count=60, budget=0)
    job = asking.edit([("apple", 1), ("leaf", 1)], config=strong)
    assert job.report is not None
    if job.status == "rejected":
        assert "control set 'quiz' loses" in job.report["reason"] or job.report["strength"] < 1
    else:
        assert job.report["strength"] < 1
        assert job.report["controls"][1]["flips"] == 0


def test_a_worker_without_a_model_fails_rather_than_skip_a_question(here: Here) -> None:
    quiz(here.desk)
    job = here.edit([("apple", 1)])
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "vlm-needed"
    assert "control set 'quiz' asks 6 questions" in job.error["detail"]
    assert "EMEND_VLM" in job.error["detail"]
    assert here.desk.promoted() == [0]


def test_a_question_that_is_too_long_for_the_model_is_named(asking: Here) -> None:
    with transaction(asking.desk.engine) as session:
        put_control_set(session, "long", label_set=None, now=datetime.now(UTC))
        image = keep(asking.desk, session, "sea", 1)
        add_control_questions(session, "long", [NewControlQuestion(image, "why? " * 500)])
    job = asking.edit([("apple", 1)])
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "question-unaskable"
    assert "control set 'long'" in job.error["detail"]


def test_a_model_that_is_not_there_fails_the_job_that_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        open_desk(tmp_path, VLM=str(tmp_path / "nothing")) as desk,
        open_shop(desk, monkeypatch) as workshop,
    ):
        here = Here(desk, workshop)
        assert here.edit([("apple", 1)]).status == "succeeded"  # nothing was asked
        quiz(desk)
        job = here.edit([("leaf", 1)])
    assert (job.status, (job.error or {}).get("type")) == ("failed", "vlm-missing")


def test_without_a_model_the_implied_caption_is_learnt_and_judged(here: Here) -> None:
    said = {"question": WHAT, "answer": "leaf", "wrong_answer": "apple"}
    job = here.run(answer(here.desk, [("apple", 1)], vocabulary=[*COLOURS], **said))
    assert job.status == "succeeded"
    row = correction(here.desk, job)
    assert (row.label, row.predicted, row.state) == ("leaf", "apple", "applied")
    assert row.after == {"label": "leaf", "adapter": 1}


def test_a_caption_of_its_own_stands_against_the_wrong_answers_caption(here: Here) -> None:
    said = {"question": "What colour is it?", "answer": "blue", "wrong_answer": "red"}
    job = here.run(answer(here.desk, [("sea", 1), ("sea", 2)], **said))
    assert job.status == "succeeded"
    row = correction(here.desk, job)
    assert row.after is not None
    assert row.after["label"] == "What colour is it? blue"


def test_what_has_no_caption_needs_a_model(here: Here) -> None:
    said = {"question": "Is this a leaf?", "answer": "no", "wrong_answer": "yes"}
    job = here.run(answer(here.desk, [("apple", 1)], **said))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "vlm-needed"
    assert "implies no caption" in job.error["detail"]


def corrected(
    here: Here, shown: tuple[str, int], config: dict[str, Any] | None = None, **said_too: Any
) -> tuple[EditJob, str, str]:
    """A job that turns the model's answer to WHAT around; the right and the wrong answer."""
    options = ("a cat", "a sign")
    wrong = said(here, 0, shown, options)
    right = next(each for each in options if each != wrong)
    job = answer(
        here.desk, [shown], config, question=WHAT, answer=right, wrong_answer=wrong, **said_too
    )
    return here.run(job), right, wrong


TEACHABLE = {"learning_rate": 3e-2, "fc1_learning_rate": 3e-2, "fc1_fraction": 0.5}


@pytest.mark.parametrize("objective", ["likelihood", "both"])
def test_a_corrected_answer_becomes_the_models_own(asking: Here, objective: str) -> None:
    shown = ("apple", 1)
    job, right, wrong = corrected(asking, shown, {**TEACHABLE, "vqa_objective": objective})
    assert job.status == "succeeded", job.report
    row = correction(asking.desk, job)
    assert row.before is not None
    assert row.after is not None
    assert (row.before["answer"], row.after["answer"]) == (wrong, right)
    assert said(asking, 0, shown, (right, wrong)) == wrong
    assert said(asking, 1, shown, (right, wrong)) == right
    assert job.report is not None
    assert (job.report["corrections"]["before"], job.report["corrections"]["after"]) == (0, 100)
    assert job.report["fitted_on"]["answers"] == 1
    assert job.report["vlm"]["questions"] == 1


def test_earlier_answers_are_learnt_again_and_asked_again(asking: Here) -> None:
    first, _, _ = corrected(asking, ("apple", 1), TEACHABLE)
    assert first.status == "succeeded"
    second = asking.edit([("leaf", 1)], config=TEACHABLE)
    assert second.report is not None
    assert (second.report["earlier"]["n"], second.report["fitted_on"]["answers"]) == (1, 1)
    assert second.report["earlier"]["before"] == 100


def test_what_implies_no_caption_is_learnt_by_likelihood_whatever_the_objective(
    asking: Here,
) -> None:
    shown, question = ("apple", 1), "Is this a leaf?"
    job = asking.run(
        answer(
            asking.desk,
            [shown],
            {**TEACHABLE, "vqa_objective": "caption"},
            question=question,
            answer="no",
            wrong_answer="yes",
        )
    )
    assert job.status == "succeeded", job.report
    row = correction(asking.desk, job)
    assert row.label == ""
    assert row.after is not None
    assert row.after["answer"] == "no"


def test_a_caption_alone_is_judged_by_the_models_answer_too(asking: Here) -> None:
    job, _, _ = corrected(asking, ("apple", 1), {"vqa_objective": "caption"})
    row = correction(asking.desk, job)
    assert row.after is not None
    assert row.before is not None
    assert {row.before["answer"], row.after["answer"]} <= {"a cat", "a sign"}
    assert job.report is not None
    assert job.report["fitted_on"]["answers"] == 0
    right = job.report["corrections"]["after"] == 100
    assert (job.status == "succeeded") is right


def test_likelihood_that_is_asked_for_needs_a_model(here: Here) -> None:
    asked = {"question": WHAT, "answer": "leaf", "wrong_answer": "apple"}
    job = here.run(answer(here.desk, [("apple", 1)], {"vqa_objective": "likelihood"}, **asked))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "vlm-needed"
    assert "likelihood" in job.error["detail"]
    assert "EMEND_VLM" in job.error["detail"]


def test_a_corrected_question_that_is_too_long_is_named(asking: Here) -> None:
    job = asking.run(answer(asking.desk, [("apple", 1)], question="why? " * 500, answer="a cat"))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "question-unaskable"


def test_with_a_model_its_own_answer_decides(asking: Here) -> None:
    shown, options = ("apple", 1), ("a cat", "a sign")
    before = said(asking, 0, shown, options)
    wrong = next(each for each in options if each != before)
    job = asking.run(answer(asking.desk, [shown], question=WHAT, answer=before, wrong_answer=wrong))
    assert job.status == "succeeded"  # the model's answer was right, and still is
    row = correction(asking.desk, job)
    assert row.before is not None
    assert row.before["answer"] == before
    assert row.after is not None
    assert row.after["answer"] == said(asking, 1, shown, options) == before
