"""How an edit trains, whatever its method: every number with its unit, range and source.

Sources: v1 = arXiv 2407.16526, v2 = arXiv 2502.04098, code = the authors' code of v2,
measured = `benchmark/README.md`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from editing.augmentation import Augmentation
from editing.fewshot import EditTask
from editing.negatives import COMPETING
from encoder.clip import Encoder

HEAVIEST_GUARD = 1e6  # weight of the guard term at most


class TrainingConfig(BaseModel):
    """Shared by all methods; each adds its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(
        1.25e-3, gt=0, le=1, description="peak step size of Adam for everything dense (measured)"
    )
    epochs: float = Field(
        8, ge=0, le=1000, description="passes over the corrections at most (measured; v1: 10-50)"
    )
    min_steps: int = Field(
        40, ge=0, le=100_000, description="optimizer steps that a small job may always take"
    )
    small_job_rate: float = Field(
        0.5,
        gt=0,
        le=1,
        description="peak step sizes of a job so small that min_steps sets its length, over those "
        "of larger ones: it sees each image often, and drifts at their pace (measured)",
    )
    max_steps: int = Field(
        600, ge=0, le=1_000_000, description="optimizer steps at most, whatever the epochs say"
    )
    rounds: int = Field(
        4,
        ge=1,
        le=100,
        description="warm-up and cosine at most so often: another round follows while too few "
        "corrections are right, so that one set of step sizes serves encoders of many kinds; one "
        "that diverges is undone, and those after it take half the step sizes (measured)",
    )
    growth: float = Field(
        2.0, ge=1, le=10, description="peak step sizes of a round over those of the one before"
    )
    enough_right: float = Field(
        0.98,
        ge=0,
        le=1,
        description="share of right corrections that makes a further round needless, of all and of "
        "the new ones",
    )
    batch_size: int = Field(
        16, ge=1, le=4096, description="corrections a step (code: 16; v1: 8 few-shot)"
    )
    warmup_fraction: float = Field(
        0.2, ge=0, le=1, description="part of the steps with rising step size, then cosine (v1)"
    )
    averaging: float = Field(
        0.0,
        ge=0,
        le=1,
        description="part of a round's steps, its last, whose mean numbers it ends with; step "
        "sizes then stay at their peak after the warm-up (arXiv 1803.05407); 0: the last numbers, "
        "of a cosine",
    )
    towers: Literal["vision", "both"] = Field(
        "vision",
        description="what moves: the vision tower, or the text tower too (v1's classification "
        "study); the text tower must then be open_clip's own",
    )
    text_labels: int = Field(
        32,
        ge=1,
        le=100_000,
        description="labels whose prompts a step reads where both towers move: its images' own, "
        "however many, then those that the images are nearest to; the others stand as last read",
    )
    loss: Literal["cross-entropy", "contrastive"] = Field(
        "cross-entropy",
        description="over the vocabulary's text features, or the paper's in-batch loss",
    )
    negatives: Literal["vocabulary", "own-labels"] = Field(
        "vocabulary",
        description="wrong labels to push away: all that an image allows, or of those the job's "
        "own labels, which forgets less where nothing is replayed (measured)",
    )
    vqa_objective: Literal["likelihood", "caption", "both"] = Field(
        "likelihood",
        description="what a corrected answer about an image teaches: that the vision-language "
        "model finds it likely, the label that it implies, or both; without a model, the label",
    )
    answer_weight: float = Field(
        1.0, ge=0, le=1000, description="weight of the answers' loss, nats; labels have 1"
    )
    answer_batch_size: int = Field(8, ge=1, le=4096, description="questions a step")
    augmentation: Augmentation = Field(
        Augmentation(),
        description="random variations of the corrections (code) in the first round; each further "
        "one varies them half as much (measured)",
    )
    stop_margin: float = Field(
        3.0,
        ge=0,
        le=100,
        description="training stops early once every correction's own label leads the runner-up "
        "by this many nats of log-odds",
    )
    landing: float = Field(
        0.5,
        ge=0,
        le=1,
        description="part of a round's steps that still follow an early stop, with step sizes that "
        "fall to zero (measured)",
    )
    guard_weight: float = Field(
        30.0,
        ge=0,
        le=HEAVIEST_GUARD,
        description="weight of the distance to the frozen encoder's features on guard images",
    )
    guard_images: int = Field(256, ge=0, le=100_000, description="guard images at most (measured)")
    guard_batch_size: int = Field(16, ge=1, le=4096, description="guard images a step (measured)")
    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="matrix products of the training steps; sums and weights stay fp32"
    )
    replay: Literal["refit", "stack"] = Field(
        "refit",
        description="refit from the base on all live corrections, or stack on the live version "
        "without replay (the papers' protocol)",
    )
    max_images: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="a job's images at most; beyond it, all new corrections and a class-balanced "
        "draw of the earlier ones are fitted on top of the parent (but forgetting a correction "
        "refits all others)",
    )

    def competing(self, encoder: Encoder, task: EditTask) -> Tensor:
        """bool [N, V]: the labels of which an image is to be told from the others in training."""
        return COMPETING[self.negatives](encoder, task)

    def rate_for(self, images: int, questions: int = 0) -> float:
        """Factor of the peak step sizes for a job of so many labelled images and questions."""
        small = self._wanted_steps(images, questions) < self.min_steps
        return self.small_job_rate if small else 1.0

    def steps_for(self, images: int, questions: int = 0) -> int:
        """Optimizer steps at most for such a job."""
        return min(max(self._wanted_steps(images, questions), self.min_steps), self.max_steps)

    def _wanted_steps(self, images: int, questions: int) -> int:
        sizes = ((images, self.batch_size), (questions, self.answer_batch_size))
        passes = max(count / min(size, count) for count, size in sizes if count)
        return round(self.epochs * passes)
