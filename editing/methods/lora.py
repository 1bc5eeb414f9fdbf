"""LoRA: low rank on every linear of the tower, as LoRSU's first paper compares with (rank 32).

Sources: arXiv 2106.09685 for the form; arXiv 2407.16526, appendix B, for where and how large. The
packed q, k and v weight is one matrix with one pair.
"""

from __future__ import annotations

from pydantic import Field

from editing.methods.fitting import MethodConfig, Subject
from editing.parametrize import Forms
from editing.selection import Selection
from editing.weight_kinds import linear_weights


class LoraConfig(MethodConfig):
    """LoRA's numbers; see `TrainingConfig` for the sources' names."""

    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="peak step size of Adam for the low-rank factors"
    )
    rank: int = Field(32, ge=1, le=4096, description="of each low-rank pair (v1: 32)")
    alpha: float = Field(32, gt=0, le=1e6, description="low-rank scale is alpha / rank")

    def select(self, subject: Subject) -> Selection:
        model = subject.encoder.model
        linears = (linear_weights(model, tower) for tower in subject.towers)
        return Selection(rows=dict.fromkeys(name for names in linears for name in names))

    @property
    def forms(self) -> Forms:
        return Forms(rate=self.learning_rate, rank=self.rank, scale=self.alpha / self.rank)
