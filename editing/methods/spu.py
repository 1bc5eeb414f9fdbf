"""SPU, selective parameter update: of each fc1 weight the entries that the gradient points at.

Source: arXiv 2308.12462. Its layer study ends at the first linear of each block's MLP; the biases
of these linears and the output projection move whole. Our differences: the gradient is the task's
own mean (the paper's too), replay is the service's, and the text tower moves only if asked to.
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
        blocks = [block for tower in subject.towers for block in tower.blocks]
        gradients = subject.gradients([name for block in blocks for name in block.fc1])
        masks = fc1_masks(blocks, gradients, self.fc1_fraction)
        reached = [block for block in blocks if block.fc1[0] in masks]
        biases = [name for block in reached for name in block.fc1_biases]
        projections = [tower.projection for tower in subject.towers if tower.projection is not None]
        return Selection(masks=masks, dense=(*biases, *projections))

    @property
    def forms(self) -> Forms:
        return Forms(rate=self.learning_rate, sparse_rate=self.fc1_learning_rate)
