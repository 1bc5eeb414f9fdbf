"""LoRSU: low rank on the heads, and single weights of fc1, that the task's gradient points at.

Sources: arXiv 2407.16526 (v1: equations 5 to 9), arXiv 2502.04098 and its code. Strict mode moves
what the papers state; code-parity mode adds what the authors' code trains besides: low rank on the
output projection, and the biases of fc1 and of all heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from editing.augmentation import Augmentation
from editing.methods.fitting import MethodConfig, Subject
from editing.parametrize import Forms
from editing.selection import Selection, select


class LorsuConfig(MethodConfig):
    """LoRSU's numbers; see `TrainingConfig` for the sources' names."""

    PAPER: ClassVar[Mapping[str, float]] = {"heads": 2, "fc1_fraction": 0.05}
    """v1's budgets, where ours differ."""

    mode: Literal["strict", "code-parity"] = Field(
        "strict", description="move what the paper states, or also what only the code trains"
    )
    rank: int = Field(32, ge=1, le=4096, description="of each low-rank pair (v1: 32, code: 64)")
    alpha: float = Field(32, gt=0, le=1e6, description="low-rank scale is alpha / rank (code: 64)")
    heads: int = Field(
        3, ge=1, le=1024, description="selected heads in each block (measured; v1: 2)"
    )
    fc1_fraction: float = Field(
        0.1, gt=0, le=1, description="of each fc1 weight that may move (code: 0.10, v1: 0.05)"
    )
    fc1_learning_rate: float = Field(
        1.25e-3, gt=0, le=1, description="peak step size of Adam for fc1 entries (measured)"
    )
    # Small jobs are measured at steps of 5e-4, large ones at 1.25e-3.
    small_job_rate: float = Field(
        0.4, gt=0, le=1, description="as of all methods, for LoRSU's step sizes (measured)"
    )

    @classmethod
    def code_parity(cls) -> LorsuConfig:
        """The authors' code of v2: what it trains and its numbers, where they are known.

        What it does not have is off: our guard term, further rounds, early stop and small jobs.
        The stretch is RandomResizedCrop's own; by how much it jitters is not known.
        """
        return cls(
            mode="code-parity", rank=64, alpha=64, heads=2, fc1_fraction=0.1, batch_size=16,
            epochs=5, learning_rate=1e-5, fc1_learning_rate=1e-5,
            rounds=1, growth=1, min_steps=0, small_job_rate=1, stop_margin=100,
            guard_weight=0, guard_images=0,
            augmentation=Augmentation(crop=0.9, stretch=math.log(4 / 3), rotation=0, jitter=0.3),
        )  # fmt: skip

    def select(self, subject: Subject) -> Selection:
        blocks = [block for tower in subject.towers for block in tower.blocks]
        names = [name for block in blocks for name in (*block.attention, *block.fc1)]
        gradients = subject.gradients(names)
        chosen = [
            select(
                tower,
                gradients,
                heads=self.heads,
                fc1_fraction=self.fc1_fraction,
                code_parity=self.mode == "code-parity",
            )
            for tower in subject.towers
        ]
        return chosen[0] if len(chosen) == 1 else chosen[0].with_text(chosen[1])

    @property
    def forms(self) -> Forms:
        return Forms(
            rate=self.learning_rate,
            sparse_rate=self.fc1_learning_rate,
            rank=self.rank,
            scale=self.alpha / self.rank,
        )
