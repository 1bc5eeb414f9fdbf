"""SPU, selective parameter update: of each fc1 weight the entries that the gradient points at.

Source: arXiv 2308.12462. Its layer study ends at the first linear of each block's MLP; the biases
of these linears and the output projection move whole. Our differences: the gradient is the task's
own mean (the paper's too), replay is the service's, and the text tower stays frozen.
"""

from __future__ import annotations

from pydantic import Field

from editing.methods.fitting import MethodConfig, Subject
from editing.parametrize import Forms
from editing.selection import Selection, fc1_masks


class SpuConfig(MethodConfig):
    """SPU's numbers; see `TrainingConfig` for the sources' names."""

    learning_rate: float = Field(
        1e-4, gt=0, le=1, description="peak step size of Adam for biases and output projection"
    )
    fc1_fraction: float = Field(
        0.10, gt=0, le=1, description="of each fc1 weight that may move (SPU and v1: 0.10)"
    )
    fc1_learning_rate: float = Field(
        1e-3, gt=0, le=1, description="peak step size of Adam for fc1 entries"
    )

    def select(self, subject: Subject) -> Selection:
        tower = subject.encoder.tower
        names = [name for block in tower.blocks for name in block.fc1]
        masks = fc1_masks(tower, subject.gradients(names), self.fc1_fraction)
        reached = [block for block in tower.blocks if block.fc1[0] in masks]
        biases = [name for block in reached for name in block.fc1_biases]
        projection = () if tower.projection is None else (tower.projection,)
        return Selection(masks=masks, dense=(*biases, *projection))

    @property
    def forms(self) -> Forms:
        return Forms(rate=self.learning_rate, sparse_rate=self.fc1_learning_rate)
