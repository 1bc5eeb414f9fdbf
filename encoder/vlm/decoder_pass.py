"""One forward pass of a decoder over ragged prompts, and what a caller needs around it.

Prompts are padded behind: nothing in front of a padded token ever looks at it, so a pass over
prompts alone needs no mask, and attention can leave out the upper half of its work.

Legend: B prompts, L tokens of the longest, D decoder width, Q tokens of a pass, C columns that they
may look at, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoder.vlm.errors import AnswerTooLong
from encoder.vlm.key_values import KeyValues
from encoder.vlm.model import VisionLanguageModel

_TOKENS_A_PASS = {"cpu": 2048, "cuda": 32768}
"""Padded tokens that one pass takes: on a CPU more of them leave its caches and gain nothing."""


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Prompts [L_b, D] each to [B, L, D], zeros behind; differentiable."""
    return pad_sequence(list(rows), batch_first=True)


def embedded(vlm: VisionLanguageModel, ids: Tensor) -> Tensor:
    """Token ids of any shape to [*shape, D]."""
    return cast(Tensor, cast(Any, vlm.decoder).get_input_embeddings()(ids))


def hidden_states(
    vlm: VisionLanguageModel,
    embeddings: Tensor,
    positions: Tensor | None = None,
    visible: Tensor | None = None,
    cache: KeyValues | None = None,
) -> Tensor:
    """Embeddings [B, Q, D] to the states [B, Q, D] that `logits` takes.

    `positions` [B, Q] (default: from 0 on); `visible` bool [B, Q, C], at which columns a token
    looks (default: itself and all before it); `cache` is read and extended.
    """
    mask = None if visible is None else _additive(visible, embeddings.dtype)
    found = cast(Any, vlm.decoder).get_decoder()(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return cast(Tensor, found.last_hidden_state)


def logits(vlm: VisionLanguageModel, states: Tensor) -> Tensor:
    """States [..., D] to fp32 [..., V]."""
    return cast(Tensor, cast(Any, vlm.decoder).get_output_embeddings()(states)).float()


def check_length(vlm: VisionLanguageModel, tokens: int) -> None:
    """Raise AnswerTooLong where prompt and answer do not fit together."""
    if tokens > vlm.context_length:
        raise AnswerTooLong(tokens, vlm.context_length)


def batches(
    lengths: Sequence[int], device: torch.device, *, passes: int = 1
) -> Iterator[list[int]]:
    """Indices of `lengths` in batches of as many tokens as `passes` passes take.

    Similar lengths come together, the longest first.
    """
    budget = passes * _TOKENS_A_PASS.get(device.type, _TOKENS_A_PASS["cpu"])
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """bool [B, Q, C] to [B, 1, Q, C]: made once, where attention would do it in every layer."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, -torch.inf).unsqueeze(1)
