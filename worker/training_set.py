"""From corrections to what an edit learns from: which of them, on top of what, in which form.

Legend: N corrections, V labels of the vocabulary, G guard images, S image side, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editing.answer_task import AnswerTask
from editing.fewshot import EditTask
from editing.questions import AskedCorrections
from editing.replay import draw_replay, plan_replay
from editing.training_config import TrainingConfig
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from encoder.prompts import prompt_features
from registry.lineage import Learnt
from registry.tables import Correction, LabelSet
from worker.asked_corrections import Asker, answers_of
from worker.control_sets import Controls
from worker.stored_images import ImageReader, Wanted
from worker.vocabulary import Vocabulary, join_answers, possible_answers

ASKED_AT_MOST = 2000
"""Earlier corrections that are judged without being fitted; the gate holds their pixels."""


@dataclass(frozen=True)
class TrainingPlan:
    """Which corrections one edit is about.

    `new` are the job's own; `earlier` are fitted again; `asked` are earlier ones that are only
    judged. A stacked edit is fitted on top of the live version, any other from the base.
    """

    new: tuple[Correction, ...]
    earlier: tuple[Correction, ...]
    asked: tuple[Correction, ...]
    stacked: bool

    @property
    def fitted(self) -> tuple[Correction, ...]:
        return self.new + self.earlier

    @property
    def judged(self) -> tuple[Correction, ...]:
        """The fitted ones first."""
        return self.fitted + self.asked


def plan_training(
    new: Sequence[Correction],
    live: Sequence[Learnt],
    config: TrainingConfig,
    *,
    seed: int,
    must_refit: bool,
    read: Callable[[Sequence[str]], Sequence[Correction]],
) -> TrainingPlan:
    """New corrections are always taken, however many; `plan_replay` says which others.

    Only what was drawn is `read`, in order, however long the lineage; what `read` leaves out was
    forgotten or replaced since.
    """
    own = {each.id for each in new}
    earlier = [each for each in live if each.id not in own]
    labels = [each.label for each in earlier]
    replay = plan_replay(labels, config, new=len(new), seed=seed, must_refit=must_refit)
    drawn = set(replay.positions)
    rest = [each for row, each in enumerate(earlier) if row not in drawn]
    asked = draw_replay([each.label for each in rest], room=ASKED_AT_MOST, seed=seed)
    return TrainingPlan(
        tuple(new),
        tuple(read([earlier[row].id for row in replay.positions])),
        tuple(read([rest[row].id for row in asked])),
        stacked=replay.stacked,
    )


@dataclass(frozen=True)
class TrainingSet:
    """`task` is what is fitted, `judged` the same and more; rows are `vocabulary` rows. `asked` are
    those of the judged ones of which the vision-language model's answers count."""

    task: EditTask
    judged: EditTask
    vocabulary: Vocabulary
    asked: AskedCorrections | None = None


@dataclass(frozen=True)
class Teaching:
    """What a corrected answer teaches: see `TrainingConfig.vqa_objective`. `model_is_needed`: the
    job asks for its likelihood in so many words, and shall not do with the caption alone."""

    objective: str
    model_is_needed: bool = False

    @classmethod
    def of(cls, config: TrainingConfig, asked_for: Mapping[str, object]) -> Teaching:
        """`asked_for` are the fields that the job names itself."""
        named = asked_for.get("vqa_objective")
        return cls(config.vqa_objective, named in ("likelihood", "both"))


BY_LABELS = Teaching("caption")


@dataclass(frozen=True)
class TrainingSetBuilder:
    """Turns a plan into tensors, for the versions of one base encoder."""

    reader: ImageReader
    text_cache: TextFeatureCache
    everyday: Sequence[str]
    asker: Asker

    def build(
        self,
        plan: TrainingPlan,
        start: Encoder,
        label_sets: Mapping[str, LabelSet],
        controls: Controls,
        teaching: Teaching = BY_LABELS,
    ) -> TrainingSet:
        """`start` is the encoder that is edited.

        Raises ImageUnreadable, editing.errors.InvalidTask, encoder.errors.ClassifierError, and what
        `Asker.asked` raises."""
        asked = self.asker.asked(plan.judged, by_likelihood=teaching.model_is_needed)
        vocabulary = join_answers(possible_answers(plan.judged, label_sets, self.everyday))
        judged = EditTask(
            pixels=self._pixels(plan.judged),
            targets=vocabulary.targets,
            allowed=vocabulary.allowed,
            text_features=prompt_features(start, vocabulary.prompts, self.text_cache),
            prompts=vocabulary.prompts,
            new=torch.arange(len(plan.judged)) < len(plan.new),
            guard_pixels=controls.guard_pixels,
            guard_features=controls.guard_features,
        )
        taught = [
            row
            for row, each in enumerate(plan.fitted)
            if each.label and not (each.question and asked and teaching.objective == "likelihood")
        ]
        answers = None if asked is None else _answers(asked, plan, teaching)
        return TrainingSet(_rows(judged, taught, answers), judged, vocabulary, asked)

    def _pixels(self, corrections: Sequence[Correction]) -> Tensor:
        return self.reader.read(
            [Wanted(each.image_sha256 or "", f"correction {each.id}") for each in corrections]
        )


def _answers(asked: AskedCorrections, plan: TrainingPlan, teaching: Teaching) -> AnswerTask | None:
    """All that are taught by likelihood; by captions, those that imply none."""
    rows: Sequence[int] = range(len(plan.fitted))
    if teaching.objective == "caption":
        rows = [row for row in rows if not plan.fitted[row].label]
    return answers_of(asked, rows, new=len(plan.new))


def _rows(task: EditTask, rows: Sequence[int], answers: AnswerTask | None) -> EditTask:
    chosen = torch.tensor(rows, dtype=torch.long)
    return replace(
        task,
        pixels=task.pixels[chosen],
        targets=task.targets[chosen],
        allowed=task.allowed[chosen],
        new=task.new[chosen],
        answers=answers,
    )
