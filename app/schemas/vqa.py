"""Shapes of `/vqa`."""

from __future__ import annotations

from pydantic import BaseModel


class OptionLikelihood(BaseModel):
    """``log_likelihood`` is the natural logarithm of the probability that the model answers with
    exactly this option: all of its ``tokens``, the one that ends an answer among them.
    ``mean_log_likelihood`` is that divided by ``tokens``. ``score`` is a softmax over the options
    of the one that decided (``normalised``: the mean), between 0 and 1."""

    option: str
    score: float
    log_likelihood: float
    mean_log_likelihood: float
    tokens: int


class VqaAnswer(BaseModel):
    """``options`` in the order they were asked in, none where there were none; ``adapter`` is the
    version that answered. ``finish_reason`` is "stop", or "length" for an answer that was cut."""

    answer: str
    options: list[OptionLikelihood]
    normalised: bool
    finish_reason: str
    model: str
    adapter: int
    encoder_digest: str
    prompt_tokens: int
    answer_tokens: int
