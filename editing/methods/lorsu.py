"""LoRSU: low rank on the heads, and single weights of fc1, that the task's gradient points at.

Sources: arXiv 2407.16526 (v1: equations 5 to 9), arXiv 2502.04098 and its code. Strict mode moves
what the papers state; code-parity mode adds what the authors' code trains besides: low rank on the
output projection, and the biases of fc1 and of all heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field

from editing.augmentation import Augmentation
from editing.fewshot import EditTask
from editing.importance import mean_gradients, spread_classes
from editing.objective import Objective
from editing.parametrize import parametrise
from editing.progress import Progress, silent
from editing.selection import Selection, select
from editing.trainer import GuardTerm, History, train
from editing.training_config import TrainingConfig
from editing.vision import VisionFunction
from encoder.clip import Encoder
from encoder.deltas import Delta


class LorsuConfig(TrainingConfig):
    """LoRSU's numbers; see `TrainingConfig` for the sources' names."""

    mode: Literal["strict", "code-parity"] = Field(
        "strict", description="move what the paper states, or also what only the code trains"
    )
    rank: int = Field(32, ge=1, le=4096, description="of each low-rank pair (v1: 32, code: 64)")
    alpha: float = Field(32, gt=0, le=1e6, description="low-rank scale is alpha / rank (code: 64)")
    heads: int = Field(2, ge=1, le=1024, description="selected heads in each block (v1: 2)")
    fc1_fraction: float = Field(
        0.05, gt=0, le=1, description="of each fc1 weight that may move (v1: 0.05, code: 0.10)"
    )
    fc1_learning_rate: float = Field(
        1e-3, gt=0, le=1, description="peak step size of Adam for fc1 entries (measured)"
    )

    @classmethod
    def code_parity(cls) -> LorsuConfig:
        """The authors' code of v2: what it trains and its numbers, where they are known.

        What it does not have is off: our guard term, further rounds, early stop and small jobs.
        The stretch is RandomResizedCrop's own; by how much it jitters is not known.
        """
        return cls(
            mode="code-parity", rank=64, alpha=64, fc1_fraction=0.1, batch_size=16,
            epochs=5, learning_rate=1e-5, fc1_learning_rate=1e-5,
            rounds=1, growth=1, min_steps=0, small_job_rate=1, stop_margin=100,
            guard_weight=0, guard_images=0,
            augmentation=Augmentation(crop=0.9, stretch=math.log(4 / 3), rotation=0),
        )  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """What a fit hands back: `deltas` by parameter name, and how they came about.

    `parameters` counts the numbers that were trained, `summary` is JSON-able.
    """

    deltas: dict[str, Delta]
    history: History
    selection: Selection

    @property
    def parameters(self) -> int:
        return sum(delta.parameters for delta in self.deltas.values())

    @property
    def summary(self) -> Mapping[str, Any]:
        return {
            "steps": self.history.steps,
            "stopped_early": self.history.stopped_early,
            "losses": list(self.history.losses),
            "parameters": self.parameters,
            "selection": self.selection.summary(),
        }


def fit(
    encoder: Encoder,
    task: EditTask,
    config: LorsuConfig,
    *,
    seed: int,
    progress: Progress = silent,
) -> Fit:
    """Fit one edit on top of `encoder`, which is left untouched. Same inputs, same bytes.

    Raises VanishingGradient, LossDiverged, and whatever `progress` raises.
    """
    vision = VisionFunction(encoder, precision=config.precision)
    objective = Objective(encoder, task, config)
    gradients = mean_gradients(
        vision,
        encoder.tower,
        objective,
        task.pixels,
        order=spread_classes(task.targets),
        batch_size=config.batch_size,
        progress=progress,
    )
    selection = select(
        encoder.tower,
        gradients,
        heads=config.heads,
        fc1_fraction=config.fc1_fraction,
        code_parity=config.mode == "code-parity",
    )
    generator = torch.Generator().manual_seed(seed)
    rate = config.rate_for(len(task))
    edited = parametrise(
        vision,
        selection,
        rank=config.rank,
        scale=config.alpha / config.rank,
        rates=(rate * config.learning_rate, rate * config.fc1_learning_rate),
        generator=generator,
    )
    history = train(
        edited,
        task,
        config,
        objective=objective,
        guard=GuardTerm(encoder, task, config, generator),
        generator=generator,
        progress=progress,
    )
    return Fit(edited.extract(), history, selection)
