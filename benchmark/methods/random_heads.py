"""LoRSU with as many heads in each block, but drawn by lot: another lot for another seed."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.head_selection import choosing
from editing.methods import LorsuConfig
from editing.methods.fitting import Subject
from editing.selection import Selection


class RandomHeadsConfig(LorsuConfig):
    """LoRSU's numbers."""

    def select(self, subject: Subject) -> Selection:
        lot = torch.Generator().manual_seed(subject.seed)

        def choose(scores: Tensor) -> list[int]:
            heads: list[int] = torch.randperm(scores.numel(), generator=lot).tolist()
            return heads[: self.heads]

        return choosing(super().select, subject, choose)
