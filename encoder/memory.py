"""Running out of memory, under one name.

Torch reports it as a `RuntimeError` of many kinds, which would look like a mistake of our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from encoder.errors import OutOfMemory

_TOLD_BY = ("DefaultCPUAllocator: ", "CUDA error: out of memory")
"""Torch's own words: the allocator of the CPU, and a CUDA call that is not torch's allocator."""


@contextmanager
def memory_watched(device: torch.device) -> Iterator[None]:
    """Around work on `device`. Raises OutOfMemory; every other error comes through as it is."""
    try:
        yield
    except MemoryError as shortage:
        raise OutOfMemory("cpu") from shortage
    except RuntimeError as error:
        if not _is_shortage(error):
            raise
        raise OutOfMemory(str(device)) from error


def _is_shortage(error: RuntimeError) -> bool:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _TOLD_BY)
