from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from encoder.text_features import TextFeatureCache, text_feature_key


class Computed:
    """Counts what is computed; the feature of a key is told by its first letter."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, keys: Sequence[str]) -> Tensor:
        self.keys.extend(keys)
        return torch.tensor([[float(ord(key[0])), 1.0] for key in keys])


def test_each_key_is_computed_once() -> None:
    cache, compute = TextFeatureCache(10), Computed()
    rows = cache.features(["b", "a", "b"], compute)
    assert rows[:, 0].tolist() == [98, 97, 98]
    assert cache.features(["a"], compute)[:, 0].tolist() == [97]
    assert compute.keys == ["b", "a"]


def test_the_least_recently_used_leaves_first() -> None:
    cache, compute = TextFeatureCache(2), Computed()
    for keys in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        cache.features(keys, compute)
    assert compute.keys == ["a", "b", "c", "b"]


def test_more_keys_than_the_capacity_are_still_answered() -> None:
    keys = [chr(letter) for letter in range(97, 107)]
    assert TextFeatureCache(3).features(keys, Computed())[:, 0].tolist() == list(range(97, 107))


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    keys = [text_feature_key("text", label, ["{}"]) for label in ("cat", "dog")]
    first, second = Computed(), Computed()
    rows = TextFeatureCache(10, tmp_path).features(keys, first)
    again = TextFeatureCache(10, tmp_path).features(keys, second)
    assert torch.equal(rows, again)
    assert (first.keys, second.keys) == (keys, [])
    assert not list(tmp_path.rglob("*.part"))


def test_a_damaged_file_is_computed_anew_and_repaired(tmp_path: Path) -> None:
    key = text_feature_key("text", "cat", ["{}"])
    TextFeatureCache(10, tmp_path).features([key], Computed())
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    for damage in (b"", whole[:9], b"\xff" * 40):
        file.write_bytes(damage)
        compute = Computed()
        TextFeatureCache(10, tmp_path).features([key], compute)
        assert compute.keys == [key]
        assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        rows = TextFeatureCache(10, blocked).features(["abc"], Computed())
    assert rows.tolist() == [[97.0, 1.0]]
    assert "not kept on disk" in caplog.text


def test_the_folder_is_pruned_to_its_capacity(tmp_path: Path) -> None:
    cache = TextFeatureCache(10, tmp_path, disk_capacity=20)
    for number in range(60):
        cache.features([f"{number:03}"], Computed())
    assert len(list(tmp_path.rglob("*.safetensors"))) <= 23
    assert list(tmp_path.rglob("059.safetensors"))


def test_threads_that_ask_for_the_same_set_share_the_work() -> None:
    cache, compute, keys = TextFeatureCache(100), Computed(), [f"{n:02}" for n in range(30)]
    start = threading.Barrier(8)

    def ask(_: int) -> Tensor:
        start.wait(timeout=10)
        return cache.features(keys, compute)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert compute.keys == keys
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_a_failed_computation_leaves_the_cache_usable() -> None:
    cache = TextFeatureCache(10)

    def fail(_: Sequence[str]) -> Tensor:
        raise ValueError("no tokenizer")

    with pytest.raises(ValueError, match="no tokenizer"):
        cache.features(["a"], fail)
    assert cache.features(["a"], Computed()).tolist() == [[97.0, 1.0]]


@pytest.mark.parametrize(
    "other",
    [
        lambda: text_feature_key("other", "cat", ["{}"]),
        lambda: text_feature_key("text", "dog", ["{}"]),
        lambda: text_feature_key("text", "cat", ["a {}"]),
        lambda: text_feature_key("text", "cat", ["{}", "{}"]),
    ],
)
def test_everything_that_matters_is_in_the_key(other: Callable[[], str]) -> None:
    assert other() != text_feature_key("text", "cat", ["{}"])
