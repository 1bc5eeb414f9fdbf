"""Shapes of `/classify`."""

from __future__ import annotations

from pydantic import BaseModel


class LabelScore(BaseModel):
    """``score`` is a softmax over all labels asked about, between 0 and 1."""

    label: str
    score: float


class Prediction(BaseModel):
    """One image's best labels, best first; ``id`` may name it in a correction."""

    id: str
    labels: list[LabelScore]


class ClassifyAnswer(BaseModel):
    """One prediction an image, in order; ``adapter`` is the version that answered."""

    adapter: int
    encoder_digest: str
    predictions: list[Prediction]
