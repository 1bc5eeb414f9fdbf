"""How likely each of several options is as the answer to a question.

The score of an option is the log-likelihood of its tokens *and of the end token after them*: of
saying exactly this and stopping. Without the end token an option would always be at least as likely
as one that it begins ("stop", "stop sign"), whatever the image shows.

The prompt is computed once: all options follow it in one pass, as a tree (`option_tree`). Where
they have more than `NODES_A_PASS` tokens together, the others follow in further passes on the
prompt's kept keys and values, so that the cost grows in proportion to their number.

Legend: B questions, L tokens of the longest prompt, N nodes of the largest tree, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.memory import memory_watched
from encoder.vlm.decoder_pass import (
    batches,
    check_length,
    embedded,
    hidden_states,
    logits,
    padded,
)
from encoder.vlm.errors import OptionBlank, OptionsMissing
from encoder.vlm.key_values import KeyValues
from encoder.vlm.model import Prompt, VisionLanguageModel
from encoder.vlm.option_tree import OptionTree, grove

NODES_A_PASS = 256


@dataclass(frozen=True)
class OptionScore:
    """The log-likelihood (nats) of one option and the end token, and how many tokens these are."""

    option: str
    log_likelihood: float
    tokens: int  # at least 2: the end token counts

    @property
    def mean(self) -> float:
        """Length-normalised: nats a token."""
        return self.log_likelihood / self.tokens


def score_options(
    vlm: VisionLanguageModel, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
) -> list[list[OptionScore]]:
    """Scores of `options[b]` after `prompts[b]`, in their order.

    Raises OptionsMissing, OptionBlank, AnswerTooLong, OutOfMemory.
    """
    found: list[list[OptionScore]] = [[] for _ in prompts]
    asked = [_Asked(vlm, *pair) for pair in zip(prompts, options, strict=True)]
    passes = sorted({len(question.trees) for question in asked})
    with memory_watched(vlm.device), torch.inference_mode():
        for count in passes:  # those that need equally many passes
            alike = [index for index, each in enumerate(asked) if len(each.trees) == count]
            lengths = [asked[index].tokens for index in alike]
            for batch in batches(lengths, vlm.device):
                chosen = [alike[index] for index in batch]
                scores = _score(vlm, [asked[index] for index in chosen])
                for index, row in zip(chosen, scores, strict=True):
                    found[index] = row
    return found


class _Asked:
    """A prompt and its options as trees, checked."""

    def __init__(self, vlm: VisionLanguageModel, prompt: Prompt, options: Sequence[str]) -> None:
        if not options:
            raise OptionsMissing
        for option in options:
            if not option.strip():
                raise OptionBlank(option)
        self.embeddings = prompt.embeddings  # [L_b, D]
        self.options = list(options)
        self.ids = [vlm.answer_ids(option.strip()) for option in options]
        self.trees = list(grove(self.ids, NODES_A_PASS))
        check_length(vlm, len(prompt.embeddings) + max(map(len, self.ids)))

    @property
    def tokens(self) -> int:
        """Of the first pass."""
        return len(self.embeddings) + len(self.trees[0][1].tokens)


def _score(vlm: VisionLanguageModel, asked: Sequence[_Asked]) -> list[list[OptionScore]]:
    """One batch; all of these questions have equally many trees."""
    totals = [[0.0] * len(question.options) for question in asked]
    passes = len(asked[0].trees)
    cache = KeyValues() if passes > 1 else None
    prompts = padded([question.embeddings for question in asked])  # [B, L, D]
    last: Tensor | None = None  # [B, 1, D], the states from which answers begin
    for index in range(passes):
        trees = [question.trees[index][1] for question in asked]
        layout = TreeLayout(trees, [len(question.embeddings) for question in asked], vlm.device)
        words = embedded(vlm, layout.tokens)  # [B, N, D]
        if last is None:
            states = hidden_states(
                vlm,
                torch.cat([prompts, words], dim=1),
                layout.all_positions,
                layout.all_visible,
                cache,
            )
            last = states[torch.arange(len(asked)), layout.lengths - 1].unsqueeze(1)
        else:
            states = hidden_states(vlm, words, layout.positions, layout.visible, cache)
        if cache is not None:
            cache.crop(prompts.shape[1])
        states = torch.cat(
            [last, states[:, states.shape[1] - layout.nodes :]], dim=1
        )  # [B, 1 + N, D]
        found = option_sums(logits(vlm, states), trees, vlm.words.end)
        for row, (question, sums) in enumerate(zip(asked, found, strict=True)):
            for option, total in zip(question.trees[index][0], sums.tolist(), strict=True):
                totals[row][option] = total
    return [
        [
            OptionScore(option, total, len(ids) + 1)
            for option, ids, total in zip(question.options, question.ids, sums, strict=True)
        ]
        for question, sums in zip(asked, totals, strict=True)
    ]


class TreeLayout:
    """A batch of trees behind their prompts: columns 0 to L - 1 the prompts, then the nodes."""

    def __init__(
        self, trees: Sequence[OptionTree], lengths: Sequence[int], device: torch.device
    ) -> None:
        rows, width = len(trees), max(lengths)
        self.nodes = max(len(tree.tokens) for tree in trees)
        self.lengths = torch.tensor(lengths, device=device)  # [B]
        tokens = np.zeros((rows, self.nodes), dtype=np.int64)
        depths = np.zeros((rows, self.nodes), dtype=np.int64)
        visible = np.zeros((rows, self.nodes, width + self.nodes), dtype=np.bool_)
        visible[:, :, width:] = np.eye(self.nodes)  # no row may see nothing, not even a filler
        for row, (tree, length) in enumerate(zip(trees, lengths, strict=True)):
            count = len(tree.tokens)
            tokens[row, :count] = tree.tokens
            depths[row, :count] = tree.depths
            visible[row, :count, :length] = True
            visible[row, :count, width : width + count] = tree.visible()
        self.tokens = torch.from_numpy(tokens).to(device)  # [B, N]
        self.positions = torch.from_numpy(depths).to(device) + self.lengths[:, None]  # [B, N]
        self.visible = torch.from_numpy(visible).to(device)  # [B, N, L + N]

    @property
    def all_positions(self) -> Tensor:
        """Of prompts and nodes, [B, L + N]."""
        width = self.visible.shape[2] - self.nodes
        prompts = torch.arange(width, device=self.positions.device)
        return torch.cat([prompts.expand(len(self.positions), -1), self.positions], dim=1)

    @property
    def all_visible(self) -> Tensor:
        """For prompts and nodes, [B, L + N, L + N]: causal among the prompts, which see no node."""
        rows, _, columns = self.visible.shape
        width = columns - self.nodes
        prompts = torch.ones(width, columns, dtype=torch.bool, device=self.visible.device).tril()
        return torch.cat([prompts.expand(rows, -1, -1), self.visible], dim=1)


def option_sums(scores: Tensor, trees: Sequence[OptionTree], end: int) -> Sequence[Tensor]:
    """Logits [B, 1 + N, V], of prompt and nodes, to each option's log-likelihood with its end: fp64
    [options] for every tree; differentiable."""
    rows: list[int] = []
    slots: list[int] = []  # whose prediction: 0 the prompt's, 1 + node
    targets: list[int] = []
    owners: list[int] = []
    options = 0
    for row, tree in enumerate(trees):
        for path in tree.paths:
            rows += [row] * (len(path) + 1)
            slots += [0, *(1 + node for node in path)]
            targets += [*(tree.tokens[node] for node in path), end]
            owners += [options] * (len(path) + 1)
            options += 1
    chosen = scores[rows, slots, targets] - scores.logsumexp(dim=-1)[rows, slots]
    owned = torch.tensor(owners, device=scores.device)
    sums = chosen.double().new_zeros(options).index_add(0, owned, chosen.double())
    return torch.split(sums, [len(tree.paths) for tree in trees])
