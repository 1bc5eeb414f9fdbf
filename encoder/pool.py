"""The encoders that are ready to answer, by version.

Versions share every weight that no adapter changed, so one more costs its changed weights only.
A request takes an encoder and keeps it until it has answered: swapping never waits for requests and
requests never wait for a swap.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from encoder.clip import Encoder, Link

BASE_VERSION = 0


class EncoderPool:
    """The base, the live version, and up to `capacity` of the most recently used others."""

    def __init__(
        self, base: Encoder, load_chain: Callable[[int], Iterable[Link]], capacity: int
    ) -> None:
        """`load_chain(version)` gives what `version` is merged from, in order; it is called on a
        thread that asks, and what it raises reaches that thread."""
        if capacity < 1:
            raise ValueError(f"a pool keeps at least one version, not {capacity}")
        self._base = base
        self._load_chain = load_chain
        self._capacity = capacity
        self._lock = threading.Lock()
        self._ready: OrderedDict[int, Encoder] = OrderedDict()
        self._turns: dict[int, threading.Lock] = {}  # one thread builds a version at a time
        self._live = (BASE_VERSION, base)

    @property
    def live(self) -> tuple[int, Encoder]:
        """The version that answers by default and its encoder, read in one step."""
        return self._live

    def get(self, version: int) -> Encoder:
        """The encoder of `version`; built when it is not ready, by one thread at a time."""
        if version == BASE_VERSION:
            return self._base
        ready, turn = self._find(version)
        if ready is not None:
            return ready
        with turn:
            ready, _ = self._find(version)  # by the thread whose turn it was before
            return self._build(version) if ready is None else ready

    def prepare(self, version: int) -> None:
        """Have `version` ready, so that a swap to it is immediate."""
        self.get(version)

    def swap_live(self, version: int) -> None:
        """Let `version` answer from now on. When it cannot be built, live stays as it is."""
        encoder = self.get(version)
        with self._lock:
            former, former_encoder = self._live
            self._live = (version, encoder)
            self._ready.pop(version, None)
            if former not in (BASE_VERSION, version):
                self._keep(former, former_encoder)

    def _find(self, version: int) -> tuple[Encoder | None, threading.Lock]:
        """The encoder when it is ready, and the lock to hold while building it."""
        with self._lock:
            if version == self._live[0]:
                return self._live[1], threading.Lock()
            ready = self._ready.get(version)
            if ready is None:
                return None, self._turns.setdefault(version, threading.Lock())
            self._ready.move_to_end(version)
            return ready, threading.Lock()

    def _build(self, version: int) -> Encoder:
        try:
            encoder = self._base.merged(self._load_chain(version))
            with self._lock:
                self._keep(version, encoder)
        finally:
            with self._lock:
                self._turns.pop(version, None)
        return encoder

    def _keep(self, version: int, encoder: Encoder) -> None:
        self._ready[version] = encoder
        self._ready.move_to_end(version)
        while len(self._ready) > self._capacity:
            self._ready.popitem(last=False)
