"""A vision-language model: everything but the tower, which the encoder that answers brings along.

Legend: B images, S side, T tower tokens, W tower width, T' image tokens, D decoder width, L tokens
of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from encoder.clip import Encoder
from encoder.memory import memory_watched
from encoder.preprocessing import Preprocessing
from encoder.vlm.dialogue import Dialogue, Mark, Turn, check_turns
from encoder.vlm.errors import PromptTooLong
from encoder.vlm.reading import TowerReading, read_tokens
from encoder.vlm.words import Words

__all__ = ["Prompt", "Turn", "VisionLanguageModel"]


@dataclass(frozen=True)
class Prompt:
    """What the decoder is given before it answers."""

    embeddings: Tensor  # [L, D], decoder dtype
    text_tokens: int
    image_tokens: int  # L = text_tokens + image_tokens


@dataclass(frozen=True, eq=False)
class VisionLanguageModel:
    """Connector, decoder and tokenizer: frozen, immutable in effect and thread safe."""

    name: str
    family: str  # "llava" or "minigpt-v2"
    reading: TowerReading
    connector: nn.Module  # [B, T, W] to [B, T', D]
    decoder: nn.Module  # transformers causal language model; takes `inputs_embeds`
    words: Words
    dialogue: Dialogue
    context_length: int  # tokens, of prompt and answer together
    resize_mode: str | None = None  # how images become square; None: as the encoder does it

    @property
    def tokenizer(self) -> Any:
        """transformers' fast tokenizer, for decoding."""
        return self.words.tokenizer

    @cached_property
    def device(self) -> torch.device:
        return self._embedding.weight.device

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the decoder's weights, and of everything it is given."""
        return self._embedding.weight.dtype

    @cached_property
    def parameters_count(self) -> int:
        """Weights of connector and decoder."""
        both = (self.connector, self.decoder)
        return sum(p.numel() for module in both for p in module.parameters())

    def pixels(self, encoder: Encoder, image: Image.Image) -> Tensor:
        """An upright RGB image to uint8 [3, S, S]."""
        return self._preprocessing(encoder).to_pixels(image)

    def image_tokens(self, encoder: Encoder, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] on any device to [B, T', D], as this version of the encoder sees them.

        Raises OutOfMemory.
        """
        with memory_watched(encoder.device), torch.no_grad():
            parts = [
                self.connect(self.tower_tokens(encoder, part))
                for part in torch.split(pixels, encoder.image_chunk)
            ]
            return torch.cat(parts)

    def tower_tokens(self, encoder: Encoder, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] to the hidden tokens that are read, [B, T, W], in one forward."""
        images = encoder.preprocessing.normalise(pixels.to(encoder.device))
        weight = encoder.model.get_parameter(encoder.tower.blocks[0].fc1[0])
        visual = cast(nn.Module, encoder.model.visual)
        return read_tokens(visual, images.to(weight.dtype), self.reading)

    def connect(self, tokens: Tensor) -> Tensor:
        """[B, T, W] to [B, T', D] on the decoder's device; differentiable."""
        weight = next(self.connector.parameters())
        found: Tensor = self.connector(tokens.to(device=weight.device, dtype=weight.dtype))
        return found.to(device=self.device, dtype=self.dtype)

    def prompt(self, turns: Sequence[Turn], image: Tensor | None) -> Prompt:
        """A dialogue up to where the next answer begins; `image` [T', D] for the turn that has it.

        Differentiable with respect to `image`. Raises DialogueInvalid, PromptTooLong.
        """
        check_turns(turns, has_image=image is not None)
        self._check_characters(turns)
        pieces: list[list[int] | None] = []  # None: the image
        first = True
        for piece in self.dialogue.pieces(turns):
            if piece is Mark.IMAGE:
                pieces.append(None)
            elif piece is Mark.BEGIN:
                pieces.append([] if self.words.begin is None else [self.words.begin])
            elif piece is Mark.END:
                pieces.append([self.words.end])
            else:
                pieces.append(self.words.ids(piece, first=first))
            first = first and piece is Mark.BEGIN
        return self._assemble(pieces, image)

    def question(self, question: str, image: Tensor | None) -> Prompt:
        """One question, put as this family was trained to answer shortly.

        Raises DialogueInvalid, PromptTooLong.
        """
        turns = self.dialogue.question(question, has_image=image is not None)
        return self.prompt(turns, image)

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer as it continues a prompt, without the end token."""
        return self.words.answer_ids(self.dialogue.anchor, answer)

    def _check_characters(self, turns: Sequence[Turn]) -> None:
        """Raises PromptTooLong for what cannot fit however it is divided into tokens: doing so
        takes seconds for a million characters."""
        tokens = sum(len(turn.text) for turn in turns) // self.words.longest
        if tokens >= self.context_length:
            raise PromptTooLong(tokens, self.context_length, counted=False)

    def _assemble(self, pieces: Sequence[list[int] | None], image: Tensor | None) -> Prompt:
        ids = [token for piece in pieces if piece is not None for token in piece]
        seen = 0 if image is None else len(image)
        length = len(ids) + seen
        if length >= self.context_length:
            raise PromptTooLong(length, self.context_length)
        with torch.no_grad():
            words = self._embedding(torch.tensor(ids, device=self.device))  # [L - T', D]
        parts: list[Tensor] = []
        start = 0
        for piece in pieces:
            if piece is None:
                parts.append(cast(Tensor, image).to(device=self.device, dtype=self.dtype))
            else:
                parts.append(words[start : start + len(piece)])
                start += len(piece)
        return Prompt(torch.cat(parts), text_tokens=len(ids), image_tokens=seen)

    def _preprocessing(self, encoder: Encoder) -> Preprocessing:
        own = encoder.preprocessing
        mode = self.resize_mode or own.resize_mode
        if (self.reading.image_size, mode) == (own.image_size, own.resize_mode):
            return own
        return replace(own, image_size=self.reading.image_size, resize_mode=mode)

    @property
    def _embedding(self) -> nn.Embedding:
        return cast(nn.Embedding, cast(Any, self.decoder).get_input_embeddings())
