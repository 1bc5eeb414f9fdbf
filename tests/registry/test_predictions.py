from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pytest

from registry.artifacts import release_artifacts
from registry.errors import PredictionMissing
from registry.identity import new_id
from registry.predictions import (
    NewPrediction,
    drop_predictions,
    find_prediction,
    get_prediction,
    keep_predictions,
    surplus_predictions,
)
from tests.support.database import NOON, Memory

DAY = timedelta(days=1)


def _keep(memory: Memory, image: bytes, *, at: datetime = NOON) -> str:
    with memory.writing() as session:
        new = NewPrediction(
            id=new_id(),
            image_sha256=memory.keep(session, image),
            version=0,
            label_set=None,
            vocabulary=("cat", "dog"),
            answer=[{"label": "cat", "score": 0.75}],
            bytes=len(image),
        )
        keep_predictions(session, [new], now=at)
    return new.id


def _prune(memory: Memory, *, keep: timedelta = DAY, keep_bytes: int = 1000) -> list[str]:
    with memory.reading() as session:
        surplus = surplus_predictions(session, keep=keep, keep_bytes=keep_bytes, now=NOON)
    with memory.writing() as session:
        images = drop_predictions(session, surplus)
    with memory.writing() as session:
        return release_artifacts(session, memory.store, images)


def test_a_prediction_can_stand_in_for_its_image(memory: Memory) -> None:
    prediction = _keep(memory, b"one")
    with memory.reading() as session:
        row = get_prediction(session, prediction)
        assert memory.store.get(row.image_sha256) == b"one"
        assert row.vocabulary == ["cat", "dog"]
        assert row.answer == [{"label": "cat", "score": 0.75}]
        assert (row.version, row.created_at) == (0, NOON)


def test_old_predictions_go_with_their_images(memory: Memory) -> None:
    old = _keep(memory, b"old", at=NOON - DAY - timedelta(seconds=1))
    kept = _keep(memory, b"kept", at=NOON - DAY)
    assert _prune(memory) == [hashlib.sha256(b"old").hexdigest()]
    with memory.reading() as session:
        assert find_prediction(session, old) is None
        assert find_prediction(session, kept) is not None
        with pytest.raises(PredictionMissing) as caught:
            get_prediction(session, old)
    assert caught.value.key == old


def test_the_oldest_go_when_the_images_take_too_many_bytes(memory: Memory) -> None:
    ids = [
        _keep(memory, bytes([number]) * 100, at=NOON - timedelta(minutes=5 - number))
        for number in range(5)
    ]
    assert len(_prune(memory, keep_bytes=250)) == 3
    with memory.reading() as session:
        kept = [one for one in ids if find_prediction(session, one) is not None]
    assert kept == ids[3:]


def test_an_image_that_a_correction_names_outlives_its_prediction(memory: Memory) -> None:
    _keep(memory, b"one", at=NOON - 2 * DAY)
    memory.submit({"one": "cat"})
    assert _prune(memory) == []
    assert memory.store.exists(hashlib.sha256(b"one").hexdigest())


def test_nothing_is_kept_when_nothing_is_given(memory: Memory) -> None:
    with memory.writing() as session:
        keep_predictions(session, [], now=NOON)
    assert _prune(memory) == []


def test_surplus_predictions_are_told_oldest_first_and_only_so_many(memory: Memory) -> None:
    ids = [_keep(memory, b"one", at=NOON - DAY - timedelta(hours=number)) for number in (2, 3, 1)]
    with memory.reading() as session:
        surplus = surplus_predictions(session, keep=DAY, keep_bytes=10**6, now=NOON, limit=2)
    assert surplus == [ids[1], ids[0]]
