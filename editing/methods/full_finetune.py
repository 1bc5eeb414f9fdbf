"""F-FT, full fine-tuning: every weight of the tower, embeddings too.

Source: the rival of that name in arXiv 2407.16526. Its adapter is as large as the tower. What
scales logits belongs to no tower and stays.
"""

from __future__ import annotations

from pydantic import Field

from editing.methods.fitting import MethodConfig, Subject
from editing.parametrize import Forms
from editing.selection import Selection


class FullFinetuneConfig(MethodConfig):
    """F-FT's numbers; see `TrainingConfig` for the sources' names."""

    learning_rate: float = Field(
        1e-4, gt=0, le=1, description="peak step size of Adam for every weight"
    )

    def select(self, subject: Subject) -> Selection:
        return Selection(dense=tuple(name for tower in subject.towers for name in tower.weights))

    @property
    def forms(self) -> Forms:
        return Forms(rate=self.learning_rate)
