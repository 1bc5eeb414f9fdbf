"""Running out of memory has one name, whoever reports it."""

from __future__ import annotations

import pytest
import torch

from encoder.errors import OutOfMemory
from encoder.memory import memory_watched
from tests.support.tiny_encoder import tiny_encoder

MORE_THAN_ANY_MACHINE_HAS = 2**60


def test_the_allocator_of_the_cpu() -> None:
    with (
        pytest.raises(OutOfMemory, match="memory left on cpu"),
        memory_watched(torch.device("cpu")),
    ):
        torch.empty(MORE_THAN_ANY_MACHINE_HAS, dtype=torch.uint8)


def test_python_itself() -> None:
    with (
        pytest.raises(OutOfMemory, match="memory left on cpu"),
        memory_watched(torch.device("cpu")),
    ):
        bytearray(MORE_THAN_ANY_MACHINE_HAS)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"),
    ],
)
def test_the_accelerator(error: RuntimeError) -> None:
    with pytest.raises(OutOfMemory, match="cuda:1"), memory_watched(torch.device("cuda", 1)):
        raise error


def test_any_other_failure_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="must match"), memory_watched(torch.device("cpu")):
        torch.zeros(2) + torch.zeros(3)


def test_merging_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    base = tiny_encoder()
    monkeypatch.setattr(type(base), "_merged", full)
    with pytest.raises(OutOfMemory):
        base.merged([])
