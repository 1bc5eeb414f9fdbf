"""LN: the gains and biases of every LayerNorm of the tower, and nothing else.

Source: the rival of that name in arXiv 2407.16526.
"""

from __future__ import annotations

from pydantic import Field

from editing.methods.fitting import MethodConfig, Subject
from editing.parametrize import Forms
from editing.selection import Selection
from editing.weight_kinds import norm_weights


class LayerNormConfig(MethodConfig):
    """LN's numbers; see `TrainingConfig` for the sources' names."""

    learning_rate: float = Field(
        1e-2, gt=0, le=1, description="peak step size of Adam for gains and biases"
    )

    def select(self, subject: Subject) -> Selection:
        model = subject.encoder.model
        norms = (norm_weights(model, tower) for tower in subject.towers)
        return Selection(dense=tuple(name for names in norms for name in names))

    @property
    def forms(self) -> Forms:
        return Forms(rate=self.learning_rate)
