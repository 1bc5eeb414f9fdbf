"""The parts that learn: a two-layer projector, as LLaVA's, and a small Llama.

Legend: B rows, T image tokens, W tower width, D decoder width, P prefix, Q question tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.small_vlm.packing import Packed
from recipes.small_vlm.vocabulary import BEGIN, END, PAD, token_id

BEFORE_IMAGE = "USER: "


@dataclass(frozen=True)
class Size:
    """How big the decoder is."""

    width: int = 192
    layers: int = 4
    heads: int = 4
    mlp: int = 512
    context: int = 512


class SmallVlm(nn.Module):
    """Projector and decoder over given tower tokens."""

    def __init__(self, tokenizer: Tokenizer, tower_width: int, size: Size) -> None:
        super().__init__()
        self.config = decoder_config(tokenizer, size)
        self.linear_1 = nn.Linear(tower_width, size.width)
        self.linear_2 = nn.Linear(size.width, size.width)
        self.decoder = LlamaForCausalLM(self.config)
        # The fused kernel's backward costs half as much again on a CPU.
        self.decoder.set_attn_implementation("eager")
        self.before: Tensor  # ids of what stands in front of the image, with <s>
        before = torch.tensor(tokenizer.encode(BEFORE_IMAGE).ids)
        self.register_buffer("before", before, persistent=False)

    def prefix_length(self, image_tokens: int) -> int:
        """P for so many image tokens."""
        return len(self.before) + image_tokens

    def hidden(self, tokens: Tensor, packed: Packed) -> Tensor:
        """Tower tokens [B, T, W] and questions -> last hidden states [B, Q, D]."""
        embed = self.decoder.model.embed_tokens
        image = self.linear_2(nn.functional.gelu(self.linear_1(tokens)))
        before = embed(self.before).expand(len(tokens), -1, -1)
        rows = torch.cat([before, image.to(before.dtype), embed(packed.ids)], dim=1)
        found: Any = self.decoder.model(
            inputs_embeds=rows,
            attention_mask=packed.mask.to(rows.dtype),
            position_ids=packed.positions,
            use_cache=False,
        )
        states: Tensor = found.last_hidden_state
        return states[:, self.prefix_length(tokens.shape[1]) :]

    def logits(self, states: Tensor) -> Tensor:
        """Any [..., D] -> [..., vocabulary]."""
        scores: Tensor = self.decoder.lm_head(states)
        return scores


def decoder_config(tokenizer: Tokenizer, size: Size) -> LlamaConfig:
    """The decoder's architecture."""
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size.width,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context,
        pad_token_id=token_id(tokenizer, PAD),
        bos_token_id=token_id(tokenizer, BEGIN),
        eos_token_id=token_id(tokenizer, END),
        tie_word_embeddings=False,
    )
