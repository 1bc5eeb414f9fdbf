"""How often the model in training is right about held-out pictures; for choices, not for claims.

Legend: N pictures, T image tokens, W tower width.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipes.small_vlm.model import SmallVlm
from recipes.small_vlm.packing import IGNORED, pack
from recipes.small_vlm.questions import PLAIN, Asked, Questions

_BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """Shares in percent of `pictures` pictures."""

    pictures: int
    options: float
    """five options scored after the plain question, by summed log-likelihood"""
    options_mean: float
    """the same, by log-likelihood a token"""
    yes_no: float
    """one question to be answered yes and one no about each picture"""

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures: five options {self.options:.1f} % "
            f"(by the token {self.options_mean:.1f} %), yes/no {self.yes_no:.1f} %"
        )


def evaluate(
    model: SmallVlm,
    tokenizer: Tokenizer,
    questions: Questions,
    tokens: Tensor,
    labels: Sequence[str],
    *,
    among: Sequence[str] | None = None,
    seed: int = 1,
) -> Accuracy:
    """Ask about pictures [N, T, W]; the distractors come from `among`, or from all names."""
    draw = random.Random(seed)
    asked: list[list[Asked]] = []
    for label in labels:
        row = [Asked(PLAIN, option) for option in questions.options(label, draw, among)]
        for yes in (True, False):
            name = (
                label if yes else draw.choice([n for n in among or questions.names if n != label])
            )
            question = f"Is this {questions.phrase(name)}?"
            row += [
                Asked(question, "yes" if yes else "no"),
                Asked(question, "no" if yes else "yes"),
            ]
        asked.append(row)
    scores, lengths = _answer_scores(model, tokenizer, tokens, asked)
    right = torch.tensor(
        [[a.answer == y for a in row[:5]] for row, y in zip(asked, labels, strict=True)]
    )
    summed, mean = scores[:, :5], (scores / lengths)[:, :5]
    yes_no = scores[:, [5, 7]] > scores[:, [6, 8]]
    count = len(labels)
    return Accuracy(
        pictures=count,
        options=100 * float(right[torch.arange(count), summed.argmax(dim=1)].float().mean()),
        options_mean=100 * float(right[torch.arange(count), mean.argmax(dim=1)].float().mean()),
        yes_no=100 * float(yes_no.float().mean()),
    )


@torch.no_grad()
def _answer_scores(
    model: SmallVlm, tokenizer: Tokenizer, tokens: Tensor, asked: Sequence[Sequence[Asked]]
) -> tuple[Tensor, Tensor]:
    """Log-likelihood of each answer, [N, questions a picture], and its number of tokens."""
    scores, lengths = [], []
    for start in range(0, len(asked), _BATCH):
        rows = asked[start : start + _BATCH]
        part = tokens[start : start + _BATCH]
        packed = pack(tokenizer, rows, model.prefix_length(part.shape[1]))
        said = packed.targets != IGNORED
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.logits(model.hidden(part, packed)[said])
        log = logits.float().log_softmax(dim=-1)
        each = log.gather(1, packed.targets[said][:, None])[:, 0]
        # Answers stand one behind the other; a new one begins where the targets pause.
        begins = said & ~said.roll(1, dims=1)
        number = begins.flatten().cumsum(0)[said.flatten()] - 1
        total = torch.zeros(int(number.max()) + 1)
        scores.append(total.index_add(0, number, each).view(len(rows), -1))
        lengths.append(
            torch.zeros(len(total)).index_add(0, number, torch.ones(len(each))).view(len(rows), -1)
        )
    return torch.cat(scores), torch.cat(lengths)
