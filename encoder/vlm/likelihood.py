"""The log-likelihood of answers, as a function of what the prompts are made of.

Legend: B answers, L tokens of the longest prompt, A tokens of the longest answer with its end, N
nodes of the largest tree of candidates, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoder.vlm.decoder_pass import check_length, embedded, hidden_states, logits, padded
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.option_tree import plant
from encoder.vlm.options import TreeLayout, option_sums


def answer_likelihood(
    vlm: VisionLanguageModel, embeddings: Sequence[Tensor] | Tensor, answers: Sequence[str]
) -> Tensor:
    """log p(answer and end token | prompt) in nats, fp32 [B].

    `embeddings` are those of the prompts, [L_b, D] each (a tensor [B, L, D] where they are equally
    long). Gradients flow into them, and through them into image tokens. The same number as
    `score_options` gives. Raises AnswerTooLong.
    """
    ids = [[*vlm.answer_ids(answer.strip()), vlm.words.end] for answer in answers]
    rows: list[Tensor] = []
    for prompt, tokens in zip(embeddings, ids, strict=True):
        check_length(vlm, len(prompt) + len(tokens) - 1)
        said = torch.tensor(tokens[:-1], device=vlm.device)
        rows.append(torch.cat([prompt, embedded(vlm, said)]))
    states = hidden_states(vlm, padded(rows))  # [B, L + A - 1, D]
    ends = torch.tensor([len(row) for row in rows], device=vlm.device)
    counts = torch.tensor([len(tokens) for tokens in ids], device=vlm.device)  # [B]
    steps = torch.arange(int(counts.max()), device=vlm.device)  # [A]
    places = (ends - counts)[:, None] + steps  # [B, A], who predicts the answer's tokens
    given = steps < counts[:, None]  # [B, A]
    places = places.clamp(max=states.shape[1] - 1)
    chosen = states[torch.arange(len(rows), device=vlm.device)[:, None], places]  # [B, A, D]
    targets = pad_sequence(
        [torch.tensor(tokens, device=vlm.device) for tokens in ids], batch_first=True
    )
    scores = logits(vlm, chosen).log_softmax(dim=-1)  # [B, A, V]
    said_so = scores.gather(2, targets[:, :, None]).squeeze(2)  # [B, A]
    return torch.where(given, said_so, 0.0).sum(dim=1)


def candidate_likelihoods(
    vlm: VisionLanguageModel, embeddings: Sequence[Tensor], candidates: Sequence[Sequence[str]]
) -> list[Tensor]:
    """The same for several answers to each prompt, fp32 [candidates] a prompt.

    Each prompt is computed once, forward and backward: its candidates follow it as a tree, all in
    one pass, so they should be few. Raises AnswerTooLong.
    """
    ids = [[vlm.answer_ids(answer.strip()) for answer in row] for row in candidates]
    for prompt, row in zip(embeddings, ids, strict=True):
        check_length(vlm, len(prompt) + max(map(len, row)))
    trees = [plant(row) for row in ids]
    layout = TreeLayout(trees, [len(prompt) for prompt in embeddings], vlm.device)
    together = torch.cat([padded(embeddings), embedded(vlm, layout.tokens)], dim=1)
    states = hidden_states(vlm, together, layout.all_positions, layout.all_visible)
    last = states[torch.arange(len(trees), device=vlm.device), layout.lengths - 1]  # [B, D]
    nodes = states[:, states.shape[1] - layout.nodes :]  # [B, N, D]
    scores = logits(vlm, torch.cat([last[:, None], nodes], dim=1))
    return [sums.float() for sums in option_sums(scores, trees, vlm.words.end)]
