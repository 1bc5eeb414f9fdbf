"""Many questions about one picture in one row: they share the picture and do not see each other.

    <s>USER: [image] | \nWhat is this? ASSISTANT: goldfish</s> | \nIs this a pig? ASSISTANT: no</s>

Every question begins at the position after the picture, as if it were the only one, so what is
learnt is what is asked later, one question at a time.

Legend: B rows, L tokens of the longest row, Q question tokens of the longest row, P prefix tokens
(with those of the picture).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipes.small_vlm.questions import Asked
from recipes.small_vlm.vocabulary import END, PAD, token_id

IGNORED = -100


@dataclass(frozen=True)
class Packed:
    """What the decoder reads behind the prefix, and what it should say."""

    ids: Tensor
    """int64 [B, Q]"""
    targets: Tensor
    """int64 [B, Q]: the next token where it belongs to an answer, else IGNORED"""
    positions: Tensor
    """int64 [B, P + Q]"""
    mask: Tensor
    """float [B, 1, P + Q, P + Q], added to the attention scores: 0 or minus infinity"""


def question_ids(tokenizer: Tokenizer, question: str) -> list[int]:
    """Tokens of a question behind the picture, up to the point where the answer begins."""
    ids: list[int] = tokenizer.encode(f"\n{question} ASSISTANT:", add_special_tokens=False).ids
    return ids


def answer_ids(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Tokens of an answer and its end."""
    ids: list[int] = tokenizer.encode(f" {answer}", add_special_tokens=False).ids
    return [*ids, token_id(tokenizer, END)]


def pack(tokenizer: Tokenizer, rows: Sequence[Sequence[Asked]], prefix: int) -> Packed:
    """Put the questions of each row behind a prefix of `prefix` tokens."""
    coded = [
        [(question_ids(tokenizer, a.question), answer_ids(tokenizer, a.answer)) for a in row]
        for row in rows
    ]
    longest = max(sum(len(q) + len(a) - 1 for q, a in row) for row in coded)
    ids = torch.full((len(rows), longest), token_id(tokenizer, PAD))
    targets = torch.full((len(rows), longest), IGNORED)
    positions = torch.arange(prefix + longest).repeat(len(rows), 1)
    group = torch.full((len(rows), longest), -1)  # which question a token belongs to
    for number, row in enumerate(coded):
        at = 0
        for index, (question, answer) in enumerate(row):
            end = at + len(question) + len(answer) - 1  # the end token is only ever predicted
            ids[number, at:end] = torch.tensor([*question, *answer[:-1]])
            said = slice(at + len(question) - 1, end)
            targets[number, said] = torch.tensor(answer)
            positions[number, prefix + at : prefix + end] = prefix + torch.arange(end - at)
            group[number, at:end] = index
            at = end
    return Packed(ids, targets, positions, _mask(group, prefix))


def _mask(group: Tensor, prefix: int) -> Tensor:
    """Causal, and a question sees only the prefix and itself; padding sees itself."""
    count, longest = group.shape
    whole = torch.cat([torch.full((count, prefix), -2), group], dim=1)
    same = (whole[:, :, None] == whole[:, None, :]) | (whole[:, None, :] == -2)
    seen = same & torch.ones(prefix + longest, prefix + longest, dtype=torch.bool).tril()
    return torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[:, None]
