"""An encoder: an open_clip image-text model that is asked, never written to.

`load_encoder` gives the base; `Encoder.merged` builds a new encoder whose changed weights are new
tensors and whose unchanged weights are the base's own, so that many versions fit in memory and the
base stays bit-identical.

Legend: B images, S side, E embedding, T texts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, cast

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.adapter import Adapter
from encoder.deltas import Delta
from encoder.digests import (
    NO_ADAPTERS,
    base_digests,
    chain_digest,
    encoder_digest,
    weights_digest,
)
from encoder.errors import (
    AdapterForeign,
    AdapterMisplaced,
    SnapshotForeign,
    TokenizerUnavailable,
    UnknownParameter,
    WeightsInvalid,
)
from encoder.memory import memory_watched
from encoder.preprocessing import Preprocessing
from encoder.snapshot import Moved, Snapshot
from encoder.tower import Tower, view_tower
from encoder.weights import build_model, find_source

Link: TypeAlias = Adapter | Snapshot
"""What a version is merged from: adapters, the first of them perhaps in a snapshot."""
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

# Images a forward. On a CPU 1 to 64 cost the same a piece (DeiT-Ti, fp32: 30 to 33 ms of one core),
# so memory decides.
_IMAGE_CHUNK = {"cpu": 16, "cuda": 128}
_TEXT_CHUNK = 128  # prompts a forward


class Tokenizer(Protocol):
    def __call__(self, texts: list[str]) -> Tensor:
        """Long [T, context length]."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A base encoder, or one with adapters merged in. Immutable in effect and thread safe."""

    model: nn.Module  # eval, requires no gradient, on `device`; treat as read-only
    name: str
    pretrained: str | None
    preprocessing: Preprocessing
    tokenizer: Tokenizer
    tower: Tower
    base_digest: str  # of the weights before any adapter
    text_digest: str  # changes only when something outside `visual.` does
    chain: str = NO_ADAPTERS  # digest of the adapters merged in, in order

    @cached_property
    def digest(self) -> str:
        """Names everything this encoder answers; every cache key carries it."""
        return encoder_digest(self.base_digest, self.chain, self.preprocessing)

    @cached_property
    def device(self) -> torch.device:
        return self._probe.device

    @cached_property
    def logit_scale(self) -> float:
        """Factor of the cosine in a logit, already exponentiated."""
        return float(cast(Tensor, self.model.logit_scale).detach().float().exp())

    @cached_property
    def logit_bias(self) -> float:
        """Added to every logit; 0 for models without one (SigLIP has one)."""
        bias = cast(Tensor | None, getattr(self.model, "logit_bias", None))
        return 0.0 if bias is None else float(bias.detach().float())

    @cached_property
    def parameters_count(self) -> int:
        """Weights of the whole model, both towers."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of the whole model's weights in memory, both towers."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def embed_images(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] on any device to unit rows, fp32 [B, E] on `device`."""
        return self._embed(pixels, self.image_chunk, self._image_features)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Prompts to unit rows, fp32 [T, E] on `device`."""
        tokens = self.tokenizer(list(texts))
        return self._embed(tokens, _TEXT_CHUNK, self._text_features)

    def merged(self, links: Iterable[Link]) -> Encoder:
        """A new encoder with these merged in, in order; empty adapters change nothing.

        A snapshot may only stand at the beginning, in place of all adapters that it is made of: the
        encoder is the same, bit by bit and by its digest. Links are taken one at a time.

        Raises AdapterForeign, SnapshotForeign (made for another base), AdapterMisplaced (fitted on
        top of other adapters than those before it), UnknownParameter, DeltaShape or OutOfMemory.
        """
        with memory_watched(self.device):
            return self._merged(links)

    def _merged(self, links: Iterable[Link]) -> Encoder:
        chain = self.chain
        weights: dict[str, Tensor] = {}
        for link in links:
            if isinstance(link, Snapshot):
                self._check_place(link, chain)
                self._put(weights, link.weights)
                chain = link.chain
            elif link.deltas:
                if link.provenance.base_digest != self.base_digest:
                    raise AdapterForeign(self.base_digest, link.provenance.base_digest)
                if link.provenance.stacked_on != chain:
                    raise AdapterMisplaced(link.provenance.stacked_on, chain)
                self._add(weights, link.deltas)
                chain = chain_digest(chain, link.digest)
        return self._with_weights(weights, chain) if weights else self

    def snapshot_of(self, version: Encoder) -> Snapshot:
        """What moved between this base encoder and a version that was merged from it."""
        ours, theirs = self._parameters, version._parameters
        moved = {
            name: Moved.between(weight, theirs[name])
            for name, weight in ours.items()
            if theirs[name] is not weight  # unchanged weights are shared
        }
        return Snapshot(self.base_digest, version.chain, moved)

    def merged_deltas(self, deltas: Mapping[str, Delta], *, label: str) -> Encoder:
        """A candidate with `deltas` on top; `label` stands in for the digest of an adapter that is
        not written yet and must name these very deltas. Raises UnknownParameter or DeltaShape."""
        weights: dict[str, Tensor] = {}
        self._add(weights, deltas)
        return self._with_weights(weights, chain_digest(self.chain, label))

    def _check_place(self, snapshot: Snapshot, chain: str) -> None:
        if snapshot.base_digest != self.base_digest:
            raise SnapshotForeign(self.base_digest, snapshot.base_digest)
        if chain != NO_ADAPTERS:
            raise AdapterMisplaced(NO_ADAPTERS, chain)

    def _put(self, weights: dict[str, Tensor], moved: Mapping[str, Moved]) -> None:
        """Put what a snapshot says into `weights`, which are empty."""
        for name, state in moved.items():
            weight = self._get_parameter(name)
            state.check(name, weight)
            weights[name] = state.apply(weight)

    def _add(self, weights: dict[str, Tensor], deltas: Mapping[str, Delta]) -> None:
        """Put the changed weights of `deltas` into `weights`, on top of those already there."""
        for name, delta in deltas.items():
            weight = weights[name] if name in weights else self._get_parameter(name)
            delta.check(name, tuple(weight.shape))
            weights[name] = delta.apply(weight)

    def _get_parameter(self, name: str) -> nn.Parameter:
        parameter = self._parameters.get(name)
        if parameter is None:
            raise UnknownParameter(name)
        return parameter

    def _with_weights(self, weights: Mapping[str, Tensor], chain: str) -> Encoder:
        # A deep copy that finds a tensor in its memo takes it as it is: modules are copied, weights
        # are shared, changed ones are replaced.
        memo: dict[int, Any] = {id(shared): shared for shared in self.model.buffers()}
        for name, parameter in self._parameters.items():
            changed = weights.get(name)
            memo[id(parameter)] = (
                parameter if changed is None else nn.Parameter(changed, requires_grad=False)
            )
        # By contents: candidates that are called alike must not share text features.
        text = {name: moved for name, moved in weights.items() if not name.startswith("visual.")}
        digest = weights_digest(self.text_digest, text) if text else self.text_digest
        model = copy.deepcopy(self.model, memo)
        return replace(self, model=model, chain=chain, text_digest=digest)

    @cached_property
    def _parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    @cached_property
    def _probe(self) -> Tensor:
        # With mixed precision some vectors stay fp32; the tower computes in its matrices' dtype.
        return self._parameters[self.tower.blocks[0].fc1[0]]

    @cached_property
    def image_chunk(self) -> int:
        """How many images to pass through the tower at once."""
        # torch's own attention has a fast path for even numbers of heads only. Off it, it turns the
        # batch around, and half-precision products of the result copy the weight for every token
        # on a CPU: 350 ms a forward of DeiT-Ti (3 heads), unless there is one image.
        odd = any(
            block.heads % 2 and block.attention[0].endswith("in_proj_weight")
            for block in self.tower.blocks
        )
        if odd and self.device.type == "cpu" and self._probe.dtype != torch.float32:
            return 1
        return _IMAGE_CHUNK.get(self.device.type, 16)

    def _image_features(self, pixels: Tensor) -> Tensor:
        normalised = self.preprocessing.normalise(pixels).to(self._probe.dtype)
        return cast(Tensor, cast(Any, self.model).encode_image(normalised))

    def _text_features(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, cast(Any, self.model).encode_text(tokens))

    def _embed(self, rows: Tensor, chunk: int, features: Callable[[Tensor], Tensor]) -> Tensor:
        if not len(rows):
            return self._embed(rows.new_zeros((1, *rows.shape[1:])), chunk, features)[:0]
        parts: list[Tensor] = []
        with torch.inference_mode():
            for part in torch.split(rows, chunk):
                found = features(part.to(self.device, non_blocking=True))
                parts.append(functional.normalize(found.float(), dim=-1))
            joined = torch.cat(parts)
        # Tensors born in inference mode may not enter a loss; a clone made outside of it may.
        return joined.clone()


def load_encoder(
    name: str,
    pretrained: str | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    random_weights: bool = False,
) -> Encoder:
    """Load a base encoder.

    `name` is `bundled`, a folder (with or without `local-dir:`) that holds `open_clip_config.json`
    and safetensors, an open_clip model name, or `hf-hub:organisation/repository`. A model name
    needs `pretrained`, one of its tags or a safetensors file; `random_weights` (tests, benchmarks)
    lifts that. Only tags and hf-hub names may use the network.

    Raises a LoadError, or UnknownTowerLayout when the vision tower is not a known ViT.
    """
    source = find_source(name, pretrained, random_weights=random_weights)
    tokenizer = _load_tokenizer(source.architecture)
    model = build_model(source, device=device, precision=precision)
    return adopt_model(model, tokenizer, name=name, pretrained=pretrained)


def adopt_model(
    model: nn.Module, tokenizer: Tokenizer, *, name: str, pretrained: str | None = None
) -> Encoder:
    """Make a base encoder of a built open_clip model, which is frozen and must not be written to.

    Raises UnknownTowerLayout, or WeightsInvalid when its images are not square.
    """
    model.eval().requires_grad_(requires_grad=False)
    tower = view_tower(model)
    try:
        preprocessing = Preprocessing.from_open_clip(open_clip.get_model_preprocess_cfg(model))
    except (KeyError, ValueError) as cause:
        raise WeightsInvalid(name, f"unusable preprocessing: {cause}") from cause
    base_digest, text_digest = base_digests(model, tower, preprocessing)
    return Encoder(
        model=model,
        name=name,
        pretrained=pretrained,
        preprocessing=preprocessing,
        tokenizer=tokenizer,
        tower=tower,
        base_digest=base_digest,
        text_digest=text_digest,
    )


def _load_tokenizer(architecture: str) -> Tokenizer:
    try:
        return cast(Tokenizer, open_clip.get_tokenizer(architecture))
    except (ImportError, OSError, ValueError, RuntimeError) as cause:
        raise TokenizerUnavailable(architecture, str(cause)) from cause
