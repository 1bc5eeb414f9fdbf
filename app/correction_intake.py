"""Takes corrections in: checked, stored, then accepted in one transaction, whole or not at all.

Images are put into the store before the transaction that names them. When that transaction is
refused, those that nothing else names are removed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session
from starlette.requests import Request

from app.base_row import base_digest_of
from app.errors import FieldInvalid, VlmNeeded
from app.image_keeping import write_with_images
from app.services import Services
from app.uploads import IMAGES_LIMIT, Upload, read_upload
from encoder.pool import BASE_VERSION
from encoder.vlm.room import Room
from registry.captions import implied_caption
from registry.errors import ArtifactMissing, PredictionMissing
from registry.label_sets import find_label_set
from registry.labels import normalise_label
from registry.matching import NewCorrection
from registry.predictions import get_prediction
from registry.questions import normalise_answer, normalise_question
from registry.session import reading
from registry.submissions import Submission, submit
from registry.tables import Prediction

FIELDS = frozenset({"label", "label_set", "predicted", "prediction", "note", "replace"})
ANSWERS = ("question", "answer", "wrong_answer")


@dataclass(frozen=True)
class Item:
    """One correction as it was sent; ``prediction`` is the id of the answer that was wrong. Without
    a label, the answer to the question implies what the encoder learns to call the image."""

    label: str | None
    image: bytes | None
    prediction: str | None
    predicted: str | None
    note: str | None
    question: str = ""
    answer: str | None = None
    wrong_answer: str | None = None


@dataclass(frozen=True)
class Batch:
    """The corrections of one request."""

    items: tuple[Item, ...]
    label_set: str | None
    replace: bool

    @property
    def images(self) -> tuple[bytes | None, ...]:
        """None for those that a prediction stands in for."""
        return tuple(item.image for item in self.items)


@dataclass(frozen=True)
class Resolved:
    """A correction with its image and, where a prediction was named, what that answered."""

    item: Item
    image: bytes
    prediction: Prediction | None


async def read_batch(request: Request) -> Batch:
    """The corrections in a request's body. Raises what `read_upload` raises, and `FieldInvalid`."""
    upload = await read_upload(request, FIELDS.union(ANSWERS))
    in_query = Upload((), {"replace": tuple(request.query_params.getlist("replace"))})
    predictions = upload.texts("prediction")
    count = len(upload.images) or len(predictions)
    if count == 0:
        raise FieldInvalid("image", "at least one image, or the id of a prediction, is needed")
    if count > IMAGES_LIMIT:  # each brings an image, as if it had been sent
        raise FieldInvalid("prediction", f"{count} predictions; {IMAGES_LIMIT} at most")
    answered = [upload.for_each(name, count) for name in ANSWERS]
    _check_answered(answered)
    labels = upload.for_each("label", count)
    if labels[0] is None and answered[0][0] is None:
        raise FieldInvalid("label", "the correct label is needed, or a question and its answer")
    columns = zip(
        labels,
        upload.images or [None] * count,
        upload.for_each("prediction", count, once_for_all=count == 1),
        upload.for_each("predicted", count),
        upload.for_each("note", count),
        *answered,
        strict=True,
    )
    items = tuple(
        Item(label, image, prediction, predicted, note, question or "", answer, wrong)
        for label, image, prediction, predicted, note, question, answer, wrong in columns
    )
    replace = upload.flag("replace") or in_query.flag("replace")
    return Batch(items, upload.text("label_set"), replace)


def _check_answered(answered: Sequence[tuple[str | None, ...]]) -> None:
    questions, answers, wrong_answers = (column[0] for column in answered)
    if questions is None:
        for name, given in (("answer", answers), ("wrong_answer", wrong_answers)):
            if given is not None:
                raise FieldInvalid(name, "it belongs to a question, and there is none")
    elif answers is None:
        raise FieldInvalid("answer", "the right answer to the question is needed")
    else:
        for question in answered[0]:
            normalise_question(question or "")  # an empty one would be none


def accept(services: Services, batch: Batch) -> Submission:
    """Durable once it returns; refused whole when it raises. The images were checked before.

    Raises `FieldInvalid`, `PredictionMissing`, `PromptTooLong` or `AnswerTooLong` for what does not
    fit into the model's context, and whatever `submit` raises.
    """
    resolved = [
        _resolve(services, item, index)
        for index, item in enumerate(_with_predictions_written(services, batch))
    ]
    for one in resolved:
        _check_learnable(services, one.item)
    _check_room(services, batch.items)
    now = datetime.now(UTC)

    def write(session: Session, digests: list[str]) -> Submission:
        return submit(
            session,
            [
                _new_correction(session, one, digest, batch.label_set)
                for one, digest in zip(resolved, digests, strict=True)
            ],
            replace=batch.replace,
            base_digest=base_digest_of(session),
            batch=services.settings.edit_batch,
            wait=timedelta(seconds=services.settings.edit_wait),
            now=now,
        )

    images = [one.image for one in resolved]
    return write_with_images(services.engine, services.store, images, write)


def _check_learnable(services: Services, item: Item) -> None:
    """Raises `LabelInvalid`, `QuestionInvalid`, `VlmNeeded`."""
    if item.label is not None:
        normalise_label(item.label)
    elif services.settings.vlm_source is None:
        answer = normalise_answer(item.answer or "")
        if implied_caption(normalise_question(item.question), answer, item.wrong_answer) is None:
            raise VlmNeeded(
                f"the answer {answer[:60]!r} implies no caption, so that only the likelihood of the"
                " right answer could teach it (send the correct label along): this"
            )


def _check_room(services: Services, items: Sequence[Item]) -> None:
    """A question that the model cannot be asked would fail the edit, and with it all corrections
    of its job. A model that is not loaded here keeps no correction out."""
    asked = [item for item in items if item.question]
    if not asked or services.vlm.state != "loaded":
        return
    room = Room(services.vlm.model(), services.encoder.pool.get(BASE_VERSION))
    for item in asked:
        answers = (item.answer, item.wrong_answer)
        room.check(item.question.strip(), [each.strip() for each in answers if each is not None])


def _with_predictions_written(services: Services, batch: Batch) -> tuple[Item, ...]:
    if any(item.prediction is not None for item in batch.items):
        services.predictions.flush()
    return batch.items


def _resolve(services: Services, item: Item, index: int) -> Resolved:
    prediction = None
    if item.prediction is not None:
        with reading(services.engine) as session:
            prediction = get_prediction(session, item.prediction)
    if item.image is not None:
        _same_image(item.image, prediction, index)
        return Resolved(item, item.image, prediction)
    assert prediction is not None
    try:
        return Resolved(item, services.store.get(prediction.image_sha256), prediction)
    except ArtifactMissing as error:  # no longer kept since it was looked up
        raise PredictionMissing(prediction.id) from error


def _same_image(image: bytes, prediction: Prediction | None, index: int) -> None:
    digest = hashlib.sha256(image).hexdigest()
    if prediction is not None and prediction.image_sha256 != digest:
        raise FieldInvalid(
            f"prediction[{index}]", "it was made for another image than the one sent"
        )


def _new_correction(
    session: Session, one: Resolved, digest: str, label_set: str | None
) -> NewCorrection:
    """A prediction supplies what was predicted and, without a label set, the possible labels."""
    predicted, vocabulary = one.item.predicted, None
    if one.prediction is not None:
        predicted = predicted or one.prediction.answer[0]["label"]
        if label_set is None:
            label_set = _set_of(session, one.prediction, one.item.label or "")
        vocabulary = one.prediction.vocabulary if label_set is None else None
    return NewCorrection(
        image_sha256=digest,
        label=one.item.label,
        label_set=label_set,
        vocabulary=vocabulary,
        predicted=predicted,
        note=one.item.note,
        question=one.item.question,
        answer=one.item.answer,
        wrong_answer=one.item.wrong_answer,
    )


def _set_of(session: Session, prediction: Prediction, label: str) -> str | None:
    """The label set that was asked about, if the correct label stands in it."""
    known = find_label_set(session, prediction.label_set) if prediction.label_set else None
    return known.name if known and label and normalise_label(label) in known.labels else None
