"""Real adapters, each on top of the one before, that move other weights each."""

from __future__ import annotations

from datetime import UTC, datetime

import torch
from sqlalchemy import Engine

from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder
from encoder.deltas import Delta, Dense, LowRank, Sparse
from encoder.digests import chain_digest
from registry.adapters import NewAdapter, record_adapter
from registry.artifacts import ArtifactStore
from registry.identity import new_id
from registry.promotions import live_promotion, promote
from registry.session import transaction


def stacked_adapters(base: Encoder, count: int, *, text: bool = False) -> list[Adapter]:
    """A chain in every form that a change has; `text` moves something outside of the tower too."""
    chain: list[Adapter] = []
    beneath = ""
    for seed in range(count):
        origin = Provenance("lorsu", {}, seed, seed, beneath, base.name, None, base.base_digest)
        chain.append(Adapter(_deltas(base, seed, text=text), origin))
        beneath = chain_digest(beneath, chain[-1].digest)
    return chain


def _deltas(base: Encoder, seed: int, *, text: bool) -> dict[str, Delta]:
    draw = torch.Generator().manual_seed(seed)
    weights = dict(base.model.named_parameters())
    block = base.tower.blocks[seed % 2]
    deltas: dict[str, Delta] = {}
    for name, rows in block.head_rows([seed % 2]).items():
        down = torch.randn(2, weights[name].shape[1], generator=draw)
        deltas[name] = LowRank(down, torch.randn(len(rows), 2, generator=draw), rows, 0.3)
    for name in block.fc1:
        mask = torch.rand(weights[name].shape, generator=draw) > 0.8
        deltas[name] = Sparse(mask, 0.1 * torch.randn(int(mask.sum()), generator=draw))
    whole = next(name for name in weights if name.endswith(("ln_post.weight", "norm.weight")))
    deltas[whole] = Dense(0.01 * torch.randn(weights[whole].shape, generator=draw))
    if text:
        deltas["logit_scale"] = Dense(torch.tensor(0.01))
    return deltas


def record_stack(engine: Engine, store: ArtifactStore, base: Encoder, count: int) -> list[Adapter]:
    """Versions 1 … `count` of an empty registry, the last of them live."""
    chain = stacked_adapters(base, count)
    for version, adapter in enumerate(chain, start=1):
        data = adapter.to_bytes()
        origin = adapter.provenance
        new = NewAdapter(
            parent=version - 1,
            stacked_on=version - 1 or None,
            method=origin.method,
            config=origin.config,
            seed=origin.seed,
            base_name=base.name,
            base_pretrained=None,
            base_digest=base.base_digest,
            digest=store.put(data),
            bytes=len(data),
            parameters=adapter.parameters,
            strength=1.0,
            edit_job_id=new_id(),
            report={"verdict": "promoted"},
        )
        with transaction(engine) as session:
            assert record_adapter(session, store, new, now=datetime.now(UTC)) == version
    with transaction(engine) as session:
        live = live_promotion(session)
        promote(session, count, replaces=live.id, reason="a test", now=datetime.now(UTC))
    return chain
