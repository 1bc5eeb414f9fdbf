"""From images and possible labels to answers.

Legend: B images, S side, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from sqlalchemy import Engine
from starlette.requests import Request
from torch import Tensor

from app.errors import FieldInvalid
from app.images import decoded
from app.metrics import Metrics
from app.prediction_log import Answered, PredictionLog
from app.schemas.classify import ClassifyAnswer, LabelScore, Prediction
from app.served_encoder import ServedEncoder
from app.settings import Settings
from app.uploads import read_upload, version_of
from app.vocabulary_limit import check_size, check_top_k
from encoder.classifier import TextFeatureCache, build_classifier
from encoder.clip import Encoder
from encoder.preprocessing import Preprocessing
from registry.identity import new_id
from registry.label_sets import get_label_set
from registry.labels import normalise_labels
from registry.session import reading


@dataclass(frozen=True)
class Question:
    """One request of `/classify`; ``version`` None asks the live encoder."""

    images: tuple[bytes, ...]
    labels: tuple[str, ...]
    label_set: str | None
    templates: tuple[str, ...]
    version: int | None
    top_k: int

    @property
    def is_whole(self) -> bool:
        """Whether it can be answered without a look into the database."""
        return bool(self.labels) and self.label_set is None and self.version is None


QUESTION_FIELDS = frozenset({"label", "label_set", "template", "adapter", "top_k"})
TOP_K = 5


async def read_question(request: Request) -> Question:
    """The question in a request's body. Raises what `read_upload` raises, and `FieldInvalid`."""
    upload = await read_upload(request, QUESTION_FIELDS)
    if not upload.images:
        raise FieldInvalid("image", "at least one image is needed")
    top_k = upload.integer("top_k")
    top_k = TOP_K if top_k is None else top_k
    check_top_k(top_k)
    return Question(
        images=upload.images,
        labels=upload.texts("label"),
        label_set=upload.text("label_set"),
        templates=upload.texts("template"),
        version=version_of(upload.one("adapter")),
        top_k=top_k,
    )


@dataclass(frozen=True)
class Vocabulary:
    """What an answer can be, and how it is put to the text tower; no templates means its own."""

    label_set: str | None
    labels: tuple[str, ...]
    templates: tuple[str, ...] | None


@dataclass(frozen=True)
class Lookup:
    """What a question needs of the database: None for what it brought along, or for live."""

    vocabulary: Vocabulary | None
    served: tuple[int, Encoder] | None


class Classification:
    """Answers questions with the served encoder and hands the answers to the log."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        served: ServedEncoder,
        cache: TextFeatureCache,
        log: PredictionLog,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._served = served
        self._cache = cache
        self._log = log
        self._metrics = metrics

    def look_up(self, question: Question) -> Lookup:
        """Raises `FieldInvalid`, `NotReady`, `AdapterMissing`, `LabelSetMissing`, and what keeps
        the database or a version from being read."""
        if bool(question.labels) == (question.label_set is not None):
            raise FieldInvalid("label", "give either labels or the name of a label_set")
        vocabulary = served = None
        if question.label_set is not None:
            vocabulary = self._known(question.label_set, question.templates)
        if question.version is not None:
            served = self._served.at(question.version)
        return Lookup(vocabulary, served)

    def answer(self, question: Question, found: Lookup) -> ClassifyAnswer:
        """One prediction an image, in order, all by one version; asks neither database nor store.

        Raises `NotReady`, a label's or template's error, or `ImageRefused`.
        """
        vocabulary = found.vocabulary or _own_vocabulary(question)
        version, encoder = found.served or self._served.live()
        classifier = build_classifier(encoder, vocabulary.labels, vocabulary.templates, self._cache)
        pixels = self._pixels(question.images, encoder.preprocessing)
        ranked = classifier.rank(encoder.embed_images(pixels), question.top_k)
        self._metrics.images.inc(len(ranked))
        predictions = [
            Prediction(
                id=new_id(), labels=[LabelScore(label=label, score=score) for label, score in best]
            )
            for best in ranked
        ]
        self._keep(question.images, predictions, version, vocabulary)
        return ClassifyAnswer(
            adapter=version, encoder_digest=encoder.digest, predictions=predictions
        )

    def _known(self, name: str, templates: tuple[str, ...]) -> Vocabulary:
        with reading(self._engine) as session:
            known = get_label_set(session, name)
        chosen = templates or tuple(known.templates)
        check_size(known.labels, chosen)
        return Vocabulary(known.name, tuple(known.labels), chosen or None)

    def _pixels(self, images: Sequence[bytes], preprocessing: Preprocessing) -> Tensor:
        """Uint8 [B, 3, S, S]."""
        return torch.stack(
            [
                preprocessing.to_pixels(decoded(image, index, self._settings))
                for index, image in enumerate(images)
            ]
        )

    def _keep(
        self,
        images: Sequence[bytes],
        predictions: Sequence[Prediction],
        version: int,
        vocabulary: Vocabulary,
    ) -> None:
        now = datetime.now(UTC)
        self._log.keep(
            [
                Answered(
                    id=prediction.id,
                    image=image,
                    version=version,
                    label_set=vocabulary.label_set,
                    labels=vocabulary.labels,
                    answer=[score.model_dump() for score in prediction.labels],
                    at=now,
                )
                for image, prediction in zip(images, predictions, strict=True)
            ]
        )


def _own_vocabulary(question: Question) -> Vocabulary:
    check_size(question.labels, question.templates)
    labels = tuple(normalise_labels(question.labels))
    return Vocabulary(None, labels, question.templates or None)
