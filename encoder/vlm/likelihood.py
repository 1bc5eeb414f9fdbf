"""The log-likelihood of answers, as a function of what the prompts are made of.

Legend: B answers, L tokens of the longest prompt, A tokens of the longest answer with its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoder.vlm.decoder_pass import check_length, embedded, hidden_states, logits, padded
from encoder.vlm.model import VisionLanguageModel


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
