from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder
from encoder.deltas import Dense
from encoder.pool import EncoderPool
from tests.support.tiny_encoder import random_pixels, tiny_encoder


@pytest.fixture(scope="module")
def base() -> Encoder:
    return tiny_encoder()


class Chains:
    """One adapter a version, whose size tells the version; records what is asked for."""

    def __init__(self, base: Encoder) -> None:
        self.base, self.asked = base, list[int]()

    def __call__(self, version: int) -> Sequence[Adapter]:
        self.asked.append(version)
        if version >= 100:
            raise KeyError(version)
        provenance = Provenance("test", {}, 0, 0, "", "tiny", None, self.base.base_digest)
        change = Dense(torch.full_like(self.base.model.visual.proj, float(version)))
        return [Adapter({"visual.proj": change}, provenance)]


def version_of(encoder: Encoder, base: Encoder) -> int:
    change = encoder.model.visual.proj.detach() - base.model.visual.proj.detach()
    return round(float(change.mean()))


def test_the_base_is_version_0_and_live_at_first(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 2)
    assert pool.live == (0, base)
    assert pool.get(0) is base
    assert chains.asked == []


def test_a_version_is_built_once_and_kept(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 2)
    assert pool.get(3) is pool.get(3)
    assert version_of(pool.get(3), base) == 3
    assert chains.asked == [3]


def test_the_least_recently_used_leaves_but_never_base_or_live(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 2)
    pool.swap_live(1)
    for version in (2, 3, 2, 4):
        pool.get(version)
    for version in (0, 1, 2, 4):
        pool.get(version)
    assert chains.asked == [1, 2, 3, 4]
    assert pool.get(1) is pool.live[1]
    pool.get(3)
    assert chains.asked == [1, 2, 3, 4, 3]


def test_the_version_that_was_live_stays_ready_for_a_rollback(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 1)
    pool.swap_live(1)
    pool.swap_live(2)
    pool.swap_live(1)
    assert pool.live[0] == 1
    assert chains.asked == [1, 2]


def test_a_swap_back_to_the_base_needs_nothing(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 1)
    pool.swap_live(5)
    pool.swap_live(0)
    assert pool.live == (0, base)
    pool.get(5)
    assert chains.asked == [5]


def test_a_version_that_cannot_be_built_leaves_live_alone(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 2)
    pool.swap_live(1)
    for ask in (pool.swap_live, pool.prepare, pool.get):
        with pytest.raises(KeyError):
            ask(100)
    assert pool.live[0] == 1
    pool.get(1)
    assert chains.asked == [1, 100, 100, 100]


def test_a_prepared_version_is_swapped_without_building(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 2)
    pool.prepare(4)
    pool.swap_live(4)
    assert chains.asked == [4]


def test_a_pool_keeps_at_least_one_version(base: Encoder) -> None:
    with pytest.raises(ValueError, match="at least one"):
        EncoderPool(base, Chains(base), 0)


def test_threads_that_ask_at_once_build_once(base: Encoder) -> None:
    chains = Chains(base)
    pool = EncoderPool(base, chains, 2)
    start = threading.Barrier(8)

    def ask(_: int) -> Encoder:
        start.wait(timeout=10)
        return pool.get(7)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert chains.asked == [7]
    assert all(encoder is found[0] for encoder in found)


def test_building_one_version_does_not_hold_up_another(base: Encoder) -> None:
    chains, entered, release = Chains(base), threading.Event(), threading.Event()

    def slow(version: int) -> Sequence[Adapter]:
        if version == 1:
            entered.set()
            assert release.wait(timeout=10)
        return chains(version)

    pool = EncoderPool(base, slow, 2)
    with ThreadPoolExecutor(1) as threads:
        building = threads.submit(pool.get, 1)
        assert entered.wait(timeout=10)
        assert version_of(pool.get(2), base) == 2
        assert pool.live == (0, base)
        release.set()
        assert version_of(building.result(timeout=10), base) == 1


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.mark.usefixtures("one_torch_thread")
def test_requests_during_swaps_are_answered_by_one_whole_version(base: Encoder) -> None:
    """Version and encoder always belong together, and every answer is that version's own."""
    pool, pixels = EncoderPool(base, Chains(base), 2), random_pixels(1)
    expected = {v: EncoderPool(base, Chains(base), 1).get(v).embed_images(pixels) for v in range(4)}
    stop = threading.Event()

    def ask(_: int) -> set[int]:
        seen: set[int] = set()
        while not stop.is_set():
            version, encoder = pool.live
            assert torch.equal(encoder.embed_images(pixels), expected[version])
            seen.add(version)
        return seen

    with ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask, n) for n in range(3)]
        for turn in range(40):
            pool.swap_live(turn % 4)
        stop.set()
        seen = set().union(*(answer.result(timeout=60) for answer in asking))
    assert seen
    assert torch.equal(base.embed_images(pixels), expected[0])
