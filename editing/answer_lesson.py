"""Learning from a vision-language model's answers: the encoder is edited until the frozen decoder
finds the right answer likely.

Source: the successor paper's loss (arXiv 2502.04098), the answer's perplexity: the mean negative
log-likelihood of its tokens and the end token, given image and question. Where wrong answers are
known, a softmax over them and the right one is added, because that is what an edit must turn
around. Gradients flow from the decoder through image tokens and connector into the tower; none of
the three but the tower has trainable numbers.

Legend: B questions of a batch, T' image tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editing.answer_task import AnswerTask
from editing.lessons import Lesson, Outcome
from editing.training_config import TrainingConfig
from editing.vision import VisionFunction
from encoder.vlm.likelihood import candidate_likelihoods


class AnswerLesson(Lesson):
    """Questions whose right answers should become likely."""

    name = "answer likelihood"

    def __init__(self, vision: VisionFunction, task: AnswerTask, config: TrainingConfig) -> None:
        kinds = {right: kind for kind, right in enumerate(dict.fromkeys(task.right))}
        super().__init__(
            task.pixels,
            kinds=torch.tensor([kinds[right] for right in task.right]),
            batch_size=config.answer_batch_size,
            weight=config.answer_weight,
            new=task.new,
        )
        self.vision = vision
        self.task = task

    def outcome(self, weights: Mapping[str, Tensor], pixels: Tensor, batch: Tensor) -> Outcome:
        """Raises encoder.vlm.errors.PromptTooLong, AnswerTooLong."""
        rows = batch.tolist()
        candidates = [(self.task.right[row], *self.task.wrong[row]) for row in rows]
        likelihoods = self.likelihoods(weights, pixels, rows, candidates)
        losses, margins = [], []
        for row, found in zip(candidates, likelihoods, strict=True):
            mean = found[0] / self._tokens(row[0])  # nats a token
            surprise, margin = -mean, _log_odds(mean)
            if len(row) > 1:
                surprise = surprise - found.log_softmax(dim=0)[0]
                margin = found[0] - found[1:].max()
            losses.append(surprise)
            margins.append(margin)
        return Outcome(torch.stack(losses).mean(), torch.stack(margins).detach())

    def likelihoods(
        self,
        weights: Mapping[str, Tensor],
        pixels: Tensor,
        rows: Sequence[int],
        candidates: Sequence[Sequence[str]],
    ) -> Sequence[Tensor]:
        """Log-likelihood of each question's candidates, nats."""
        with self.vision.autocast():
            tokens = self.vision.tokens(pixels, weights, self.task.vlm.reading)
            return self.ask(self.task.vlm.connect(tokens), rows, candidates)

    def ask(
        self, images: Tensor, rows: Sequence[int], candidates: Sequence[Sequence[str]]
    ) -> Sequence[Tensor]:
        """The same from image tokens [B, T', D]."""
        prompts = [
            self.task.vlm.question(self.task.questions[row], image).embeddings
            for row, image in zip(rows, images, strict=True)
        ]
        found = candidate_likelihoods(self.task.vlm, prompts, candidates)
        return [each.to(self.vision.device) for each in found]

    def _tokens(self, answer: str) -> int:
        return len(self.task.vlm.answer_ids(answer.strip())) + 1  # the end token


def _log_odds(mean: Tensor) -> Tensor:
    """Of a token of the answer, on (geometric) average: above 0 where it is said greedily."""
    return mean - torch.log(-torch.expm1(mean.clamp(max=-1e-6)))
