"""LoRSU that pushes away what the encoder answered before, besides the update's other labels."""

from __future__ import annotations

import torch
from torch import Tensor

from editing.fewshot import EditTask
from editing.methods import LorsuConfig
from editing.negatives import among, logits
from encoder.clip import Encoder


class LorsuAgainstAnswersConfig(LorsuConfig):
    """LoRSU's numbers; `negatives` is not looked at."""

    def competing(self, encoder: Encoder, task: EditTask) -> Tensor:
        answered = logits(encoder, task).argmax(dim=1)
        return among(task, torch.cat([task.targets, answered]))
