"""What tests of training look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook


@pytest.fixture
def taken() -> Iterator[list[dict[float, float]]]:
    """Step sizes that an optimizer really used, by the peaks of their groups, step by step."""
    seen: list[dict[float, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        assert type(optimizer) is torch.optim.Adam
        assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)
        seen.append({group["peak"]: group["lr"] for group in optimizer.param_groups})

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()
