from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder, load_encoder
from encoder.deltas import Delta, Dense, LowRank, Sparse
from encoder.digests import chain_digest
from encoder.errors import AdapterForeign, AdapterMisplaced, DeltaShape, UnknownParameter
from tests.support.tiny_encoder import (
    LAYOUTS,
    SIDE,
    random_pixels,
    state_bytes,
    tiny_encoder,
    tiny_folder,
)


def adapter(
    base: Encoder, *, stacked_on: str = "", seed: int = 0, base_digest: str = ""
) -> Adapter:
    """Low rank on one head of block 0 and a sparse change of its fc1."""
    generator = torch.Generator().manual_seed(seed)
    weights, block = dict(base.model.named_parameters()), base.tower.blocks[0]
    deltas: dict[str, Delta] = {}
    for name, rows in block.head_rows([1]).items():
        down = torch.randn(2, weights[name].shape[1], generator=generator)
        deltas[name] = LowRank(down, torch.randn(len(rows), 2, generator=generator), rows)
    for name in block.fc1:
        mask = torch.rand(weights[name].shape, generator=generator) > 0.8
        deltas[name] = Sparse(mask, torch.randn(int(mask.sum()), generator=generator))
    provenance = Provenance(
        method="test",
        config={},
        seed=seed,
        parent=0,
        stacked_on=stacked_on,
        base_name=base.name,
        base_pretrained=None,
        base_digest=base_digest or base.base_digest,
    )
    return Adapter(deltas, provenance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_texts_become_unit_rows_in_fp32(layout: str) -> None:
    encoder = tiny_encoder(layout)
    images, texts = encoder.embed_images(random_pixels(3)), encoder.embed_texts(["a cat", "a dog"])
    assert images.shape == (3, 16)
    assert texts.shape == (2, 16)
    for rows in (images, texts):
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))


def test_features_are_those_of_open_clip(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    ours = load_encoder(str(folder))
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a cat", "a dog"])
    pixels = random_pixels(5)
    with torch.no_grad():
        images = theirs.encode_image(ours.preprocessing.normalise(pixels), normalize=True)
        texts = theirs.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours.embed_images(pixels), images)
    torch.testing.assert_close(ours.embed_texts(["a cat", "a dog"]), texts)


def test_many_images_are_embedded_as_each_alone() -> None:
    encoder, pixels = tiny_encoder(), random_pixels(37)
    alone = torch.cat([encoder.embed_images(pixels[i : i + 1]) for i in range(37)])
    torch.testing.assert_close(encoder.embed_images(pixels), alone)


def test_no_images_give_no_rows() -> None:
    assert tiny_encoder().embed_images(random_pixels(0)).shape == (0, 16)


def test_features_may_enter_a_loss() -> None:
    features = tiny_encoder().embed_texts(["a cat"])
    weight = torch.ones(16, requires_grad=True)
    (features * weight).sum().backward()
    torch.testing.assert_close(weight.grad, features[0])


def test_the_model_is_frozen_and_in_eval_mode() -> None:
    encoder = tiny_encoder()
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_sizes_and_scales_are_those_of_the_model() -> None:
    encoder, siglip = tiny_encoder(), tiny_encoder("siglip")
    count = sum(parameter.numel() for parameter in encoder.model.parameters())
    assert (encoder.parameters_count, encoder.parameter_bytes) == (count, 4 * count)
    assert encoder.logit_scale == pytest.approx(1 / 0.07)
    assert (encoder.logit_bias, siglip.logit_bias) == (0.0, -10.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_merging_leaves_the_base_bit_identical_and_shares_the_rest(layout: str) -> None:
    base = tiny_encoder(layout)
    before, pixels = state_bytes(base.model), random_pixels(4)
    features = base.embed_images(pixels)
    change = adapter(base)
    merged = base.merged([change])
    assert state_bytes(base.model) == before
    assert torch.equal(base.embed_images(pixels), features)
    assert not torch.allclose(merged.embed_images(pixels), features, atol=1e-3)
    ours = dict(base.model.named_parameters())
    for name, parameter in merged.model.named_parameters():
        shared = parameter.data_ptr() == ours[name].data_ptr()
        assert shared == (name not in change.deltas)
        if name in change.deltas:
            assert torch.equal(parameter, change.deltas[name].apply(ours[name]))
    buffers = dict(base.model.named_buffers())
    assert all(b is buffers[name] for name, b in merged.model.named_buffers())


def test_an_adapter_written_and_read_merges_bit_identically() -> None:
    base = tiny_encoder()
    change = adapter(base)
    again = Adapter.from_bytes(change.to_bytes())
    assert state_bytes(base.merged([again]).model) == state_bytes(base.merged([change]).model)
    assert base.merged([again]).digest == base.merged([change]).digest


def test_stacked_adapters_are_applied_in_order_at_once_or_one_by_one() -> None:
    base = tiny_encoder()
    first = adapter(base)
    second = adapter(base, stacked_on=chain_digest("", first.digest), seed=1)
    at_once, one_by_one = base.merged([first, second]), base.merged([first]).merged([second])
    assert state_bytes(at_once.model) == state_bytes(one_by_one.model)
    assert at_once.digest == one_by_one.digest
    assert at_once.chain == chain_digest(chain_digest("", first.digest), second.digest)


def test_an_adapter_out_of_its_place_is_refused() -> None:
    base = tiny_encoder()
    first = adapter(base)
    second = adapter(base, stacked_on=chain_digest("", first.digest), seed=1)
    with pytest.raises(AdapterMisplaced) as caught:
        base.merged([second])
    assert (caught.value.expected, caught.value.found) == (chain_digest("", first.digest), "")
    assert "the base encoder" in str(caught.value)
    with pytest.raises(AdapterMisplaced):
        base.merged([first]).merged([first])


def test_an_adapter_of_another_base_is_refused() -> None:
    base, other = tiny_encoder(), tiny_encoder(seed=1)
    with pytest.raises(AdapterForeign) as caught:
        other.merged([adapter(base)])
    assert (caught.value.expected, caught.value.found) == (other.base_digest, base.base_digest)


def test_deltas_that_do_not_fit_are_refused_by_name() -> None:
    base = tiny_encoder()
    with pytest.raises(UnknownParameter, match=r"visual\.nothing"):
        base.merged_deltas({"visual.nothing": Dense(torch.ones(1))}, label="x")
    with pytest.raises(DeltaShape, match=r"visual\.proj"):
        base.merged_deltas({"visual.proj": Dense(torch.ones(1))}, label="x")


def test_an_empty_adapter_changes_nothing() -> None:
    base = tiny_encoder()
    empty = Adapter({}, adapter(base, base_digest="another").provenance)
    assert base.merged([empty]) is base
    assert base.merged([]) is base


def test_digests_name_what_is_computed() -> None:
    base = tiny_encoder()
    merged = base.merged([adapter(base)])
    candidate = base.merged_deltas(adapter(base).deltas, label="candidate")
    assert len({base.digest, merged.digest, candidate.digest, tiny_encoder(seed=1).digest}) == 4
    assert tiny_encoder().digest == base.digest
    assert merged.base_digest == base.base_digest
    assert merged.text_digest == base.text_digest


def test_the_text_digest_changes_with_the_text_side_only() -> None:
    base = tiny_encoder()
    delta = Dense(torch.eye(16))
    changed = base.merged_deltas({"text_projection": delta}, label="text")
    assert changed.text_digest != base.text_digest
    assert not torch.allclose(changed.embed_texts(["a"]), base.embed_texts(["a"]), atol=1e-3)


def test_the_text_digest_tells_changes_apart_by_their_contents() -> None:
    base = tiny_encoder()
    one, other, again = (
        base.merged_deltas({"text_projection": Dense(size * torch.eye(16))}, label="candidate")
        for size in (1.0, 2.0, 1.0)
    )
    assert one.text_digest != other.text_digest
    assert one.text_digest == again.text_digest
    seen = one.merged_deltas(adapter(base).deltas, label="vision")
    assert seen.text_digest == one.text_digest


def test_a_change_of_the_logit_scale_is_seen() -> None:
    base = tiny_encoder()
    louder = base.merged_deltas({"logit_scale": Dense(torch.tensor(1.0))}, label="louder")
    assert louder.logit_scale == pytest.approx(base.logit_scale * 2.71828, rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_answers_nearly_the_same(tmp_path: Path, precision: str) -> None:
    folder = str(tiny_folder(tmp_path / "model"))
    full, half = load_encoder(folder), load_encoder(folder, precision=precision)
    pixels = random_pixels(4)
    cosine = (full.embed_images(pixels) * half.embed_images(pixels)).sum(dim=-1)
    assert half.embed_images(pixels).dtype == torch.float32
    assert half.parameter_bytes < full.parameter_bytes
    assert cosine.min() > 0.99
    assert half.base_digest != full.base_digest
    change = adapter(half)
    assert half.merged([change]).embed_images(pixels).isfinite().all()


def test_pixels_are_what_the_preprocessing_yields(tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_folder(tmp_path / "model")))
    assert encoder.preprocessing.image_size == SIDE
    assert encoder.preprocessing.mean == (0.5, 0.5, 0.5)
