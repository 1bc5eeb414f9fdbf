"""How the next token of an answer is chosen.

Legend: V tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from encoder.vlm.errors import SamplingInvalid


@dataclass(frozen=True)
class Sampling:
    """How one answer is made. Raises SamplingInvalid."""

    max_tokens: int
    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float = 1.0  # only the likeliest tokens that have this probability together
    seed: int | None = None  # None: every answer another
    stop: tuple[str, ...] = ()  # texts before which an answer ends

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SamplingInvalid(f"max_tokens is {self.max_tokens}, at least 1 is needed")
        if not 0 <= self.temperature < float("inf"):
            raise SamplingInvalid(f"temperature is {self.temperature}, at least 0 is needed")
        if not 0 < self.top_p <= 1:
            raise SamplingInvalid(f"top_p is {self.top_p}, more than 0 and at most 1 is needed")
        if not all(self.stop):
            raise SamplingInvalid("a stop text is empty")


class TokenDraw:
    """Chooses the tokens of one answer; its chance does not depend on answers made beside it."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._chance = torch.Generator()
        if sampling.seed is None:
            self._chance.seed()
        else:
            self._chance.manual_seed(sampling.seed % 2**63)

    @property
    def greedy(self) -> bool:
        return self._sampling.temperature == 0

    def choose(self, logits: Tensor) -> int:
        """One of fp32 logits [V]; where they are no numbers, as greedily, since a failure would be
        that of all answers that are made together."""
        if self.greedy or not bool(logits.isfinite().all()):
            return int(logits.argmax())
        # From the largest down and in double: a temperature near 0 must not overflow.
        wide = logits.cpu().double()
        scaled = (wide - wide.max()) / self._sampling.temperature
        likely, tokens = scaled.softmax(dim=-1).sort(descending=True)  # [V]
        before = likely.cumsum(dim=-1) - likely  # what likelier tokens have together
        likely = likely.masked_fill(before >= self._sampling.top_p, 0.0)
        drawn = torch.multinomial(likely, 1, generator=self._chance)
        return int(tokens[drawn])
