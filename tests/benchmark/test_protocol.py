"""What a stream hands from update to update, and what a step of it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.bed import Bed
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.eyes import Eyes
from benchmark.protocol import Guard, Protocol, Stream
from editing.methods import MethodConfig
from encoder.classifier import build_classifier
from encoder.clip import load_encoder
from tests.support.edit_task import quick_method
from tests.support.tiny_lab import tiny_lab


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    folder: Path = tiny_lab(tmp_path_factory.mktemp("lab"))
    return Bed(load_encoder(str(folder / "base")), load_lab(folder), load_lab_controls(folder))


def _stream(bed: Bed, protocol: Protocol, config: MethodConfig) -> Stream:
    """Two updates of two photos a class, without a guard."""
    return Stream(
        base=bed.base,
        prompts=bed.target.prompts,
        texts=lambda encoder: bed.texts_of(encoder, bed.target),
        lessons=bed.lessons(updates=2, shots=2, seed=0),
        guard=Guard.of(bed.base, bed.target.pixels[:0]),
        protocol=protocol,
        config=config,
        seed=0,
    )


@pytest.mark.parametrize("protocol", ["continual", "refit"])
def test_moved_texts_are_what_the_next_update_starts_from_and_is_asked_with(
    bed: Bed, protocol: Protocol
) -> None:
    stream = _stream(bed, protocol, quick_method("full_finetune", towers="both", epochs=2))
    first, second = (edited.encoder for edited in stream.run())
    assert len({bed.base.text_digest, first.text_digest, second.text_digest}) == 3
    assert stream.step_flops() > 0
    for encoder in (first, second):
        own = build_classifier(encoder, bed.data.labels, bed.data.templates).features
        torch.testing.assert_close(bed.texts_of(encoder, bed.target), own)
        features = Eyes(encoder).embed(bed.target.pixels)
        found = bed.ask(encoder, [bed.target])["target"]
        assert torch.equal(found, (features @ own.T).argmax(dim=1))
    assert torch.equal(bed.texts_of(bed.base, bed.target), bed.target.texts)


def test_a_step_costs_what_it_does_however_many_rounds_a_fit_may_take(bed: Bed) -> None:
    def flops(rounds: int) -> int:
        config = quick_method("lorsu", rounds=rounds, stop_margin=100, enough_right=1)
        return _stream(bed, "refit", config).step_flops()

    assert flops(4) == flops(1)
