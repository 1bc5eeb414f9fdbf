"""Asks several encoders the same things: corrections, images of control sets, control questions.

Legend: N corrections, M images of a control set, C its labels, E embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.control import ControlChange, ControlSet, compare
from editing.control_images import ControlImages
from editing.fewshot import EditTask
from editing.judged_texts import Embedded, JudgedTexts
from editing.losses import margins, masked_logits
from editing.progress import Progress
from editing.question_control import QuestionControl
from editing.questions import AskedCorrections
from encoder.clip import Encoder

CHUNK = 64
"""Images embedded between two calls of the progress callback."""


@dataclass(frozen=True)
class Answers:
    """What an encoder makes of the corrections.

    rows   long [N], the allowed label that each is given
    right  bool [N]
    leads  fp32 [N], log-odds by which its own label leads the best other one
    said   the model's own answers, by position, where it was asked
    """

    rows: Tensor
    right: Tensor
    leads: Tensor
    said: Mapping[int, str]


class Examiner:
    """Images that control sets share are looked at only once."""

    def __init__(
        self,
        base: Encoder,
        start: Encoder,
        controls: Sequence[ControlSet],
        questions: Sequence[QuestionControl],
        *,
        significance: float,
        progress: Progress,
    ) -> None:
        """`start` is the encoder that was edited."""
        self._questions = questions
        self._images = ControlImages(controls)
        self._significance = significance
        self._progress = progress
        self._step = 0
        self._steps = 0
        self._base_encoder = base
        self._start = start
        self._texts = JudgedTexts(self._tell)
        self._base = self._base_features(base)
        self._before = self._control_answers(self._base)

    def answers(self, encoder: Encoder, task: EditTask, asked: AskedCorrections | None) -> Answers:
        """Of all corrections; those that are `asked` are right where the model's answer is."""
        features = self._embed(encoder, torch.split(task.pixels, CHUNK), len(task))
        texts = self._texts.of(encoder, task.text_features, self._start, task.prompts)
        scores = masked_logits(features, texts, task.allowed, encoder.logit_scale)
        rows = scores.argmax(dim=1)
        right, leads = rows == task.targets, margins(scores, task.targets)
        if asked is None:
            return Answers(rows, right, leads, {})
        answers = asked.questions.answers(encoder, self._tell)
        right[asked.rows] = asked.is_right(answers)
        return Answers(rows, right, leads, dict(zip(asked.rows.tolist(), answers, strict=True)))

    def asked(self, encoder: Encoder) -> tuple[ControlChange, ...]:
        """What a candidate does to the answers to each control set's questions."""
        return tuple(
            each.change(encoder, self._tell, significance=self._significance)
            for each in self._questions
        )

    def changes(self, features: Sequence[Embedded]) -> tuple[ControlChange, ...]:
        """What a candidate with these features does to each control set."""
        rows = zip(self._images.sets, self._before, self._control_answers(features), strict=True)
        return tuple(
            compare(control, before, after, significance=self._significance)
            for control, before, after in rows
        )

    def features_before(self) -> list[Embedded]:
        """Of every control set, as the encoder that was edited has it."""
        return self._base if self._start is self._base_encoder else self.features(self._start)

    def _control_answers(self, features: Sequence[Embedded]) -> list[Tensor]:
        """long [M] for every control set."""
        rows = zip(self._images.sets, features, strict=True)
        return [control.answers(each.images, each.texts) for control, each in rows]

    def _base_features(self, base: Encoder) -> list[Embedded]:
        """Of every control set, from the caller where it has them."""
        cached = [control.base_features for control in self._images.sets]
        known = [features for features in cached if features is not None]
        if len(known) < len(cached):
            return self.features(base)
        rows = zip(known, self._images.sets, strict=True)
        return [Embedded(features, control.text_features) for features, control in rows]

    def features(self, encoder: Encoder) -> list[Embedded]:
        """Of every control set; texts are the encoder's own. Raises what `JudgedTexts.of` does."""
        sets = self._images.sets
        if not sets:
            return []
        base = self._base_encoder
        chunks = self._images.chunks(CHUNK)
        images = self._images.of_each_set(self._embed(encoder, chunks, len(self._images)))
        texts = [self._texts.of(encoder, each.text_features, base, each.prompts) for each in sets]
        return [Embedded(*each) for each in zip(images, texts, strict=True)]

    def _embed(self, encoder: Encoder, chunks: Iterable[Tensor], images: int) -> Tensor:
        """fp32 [images, E] on the CPU, for uint8 [images, 3, S, S] in chunks."""
        self._steps += math.ceil(images / CHUNK)
        features = []
        for chunk in chunks:
            self._report()
            features.append(encoder.embed_images(chunk).cpu())
        return torch.cat(features)

    def _tell(self) -> None:
        """One more step than was foreseen."""
        self._steps += 1
        self._report()

    def _report(self) -> None:
        self._progress("gating", self._step, self._steps, None)
        self._step += 1
