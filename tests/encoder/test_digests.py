from __future__ import annotations

import dataclasses
from functools import reduce

import torch
from open_clip.transformer import QuickGELU

from encoder.digests import (
    NO_ADAPTERS,
    base_digests,
    chain_digest,
    encoder_digest,
    json_digest,
)
from encoder.tower import view_tower
from tests.support.tiny_encoder import tiny_encoder, tiny_model


def test_one_changed_bit_of_any_weight_changes_the_base_digest() -> None:
    encoder = tiny_encoder()
    model = tiny_model().requires_grad_(requires_grad=False)
    same = base_digests(model, encoder.tower, encoder.preprocessing)
    assert same == (encoder.base_digest, encoder.text_digest)
    for name in ("visual.conv1.weight", "visual.proj", "logit_scale", "token_embedding.weight"):
        weight = model.get_parameter(name).reshape(-1)
        value = weight[0].item()
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
        base, text = base_digests(model, encoder.tower, encoder.preprocessing)
        assert base != encoder.base_digest
        assert (text != encoder.text_digest) == (not name.startswith("visual."))
        weight[0] = value
    assert base_digests(model, encoder.tower, encoder.preprocessing) == same


def test_what_leaves_no_trace_in_the_weights_is_part_of_the_digest() -> None:
    encoder, model = tiny_encoder(), tiny_model()
    preprocessing = dataclasses.replace(encoder.preprocessing, resize_mode="squash")
    tower = view_tower(model)
    wider = dataclasses.replace(
        tower, blocks=tuple(dataclasses.replace(b, heads=2, head_width=16) for b in tower.blocks)
    )
    digests = {
        encoder.base_digest,
        base_digests(model, tower, preprocessing)[0],
        base_digests(model, wider, encoder.preprocessing)[0],
    }
    model.visual.transformer.resblocks[0].mlp.gelu = QuickGELU()
    digests.add(base_digests(model, tower, encoder.preprocessing)[0])
    assert len(digests) == 4


def test_the_order_of_adapters_is_part_of_the_digest() -> None:
    preprocessing = tiny_encoder().preprocessing
    orders = [[], ["a"], ["a", "b"], ["b", "a"]]
    chains = [reduce(chain_digest, order, NO_ADAPTERS) for order in orders]
    assert len({encoder_digest("base", chain, preprocessing) for chain in chains}) == 4


def test_facts_are_digested_whatever_the_order_of_their_keys() -> None:
    assert json_digest({"a": 1, "b": [2]}) == json_digest({"b": [2], "a": 1})
    assert json_digest({"a": 1}) != json_digest({"a": 2})
