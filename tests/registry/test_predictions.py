from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from registry.artifacts import release_artifacts
from registry.corrections import forget
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
from registry.tables import Vocabulary
from tests.support.database import NOON, Memory, together

DAY = timedelta(days=1)


def _keep(
    memory: Memory,
    image: bytes,
    *,
    at: datetime = NOON,
    vocabulary: Sequence[str] = ("cat", "dog"),
) -> str:
    with memory.writing() as session:
        new = NewPrediction(
            id=new_id(),
            image_sha256=memory.keep(session, image),
            version=0,
            label_set=None,
            vocabulary=vocabulary,
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


def _vocabularies(memory: Memory) -> list[list[str]]:
    with memory.reading() as session:
        return sorted(session.scalars(select(Vocabulary.labels)))


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


def test_the_oldest_go_when_all_takes_too_many_bytes(memory: Memory) -> None:
    ids = [
        _keep(memory, bytes([number]) * 100, at=NOON - timedelta(minutes=5 - number))
        for number in range(5)
    ]
    answer, vocabulary = '[{"label": "cat", "score": 0.75}]', '["cat", "dog"]'
    one = 100 + len(answer)
    assert len(_prune(memory, keep_bytes=3 * one + len(vocabulary))) == 2
    assert len(_prune(memory, keep_bytes=3 * one + len(vocabulary) - 1)) == 1
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


def test_what_many_chose_from_is_kept_once_and_goes_with_the_last(memory: Memory) -> None:
    _keep(memory, b"one", at=NOON - 2 * DAY)
    _keep(memory, b"two", at=NOON - 2 * DAY, vocabulary=("owl",))
    kept = _keep(memory, b"three")
    assert _vocabularies(memory) == [["cat", "dog"], ["owl"]]
    _prune(memory)
    assert _vocabularies(memory) == [["cat", "dog"]]
    with memory.reading() as session:
        assert get_prediction(session, kept).vocabulary == ["cat", "dog"]
    _prune(memory, keep_bytes=0)
    assert _vocabularies(memory) == []


def test_a_vocabulary_of_its_own_counts_for_each_prediction(memory: Memory) -> None:
    ids = [
        _keep(memory, b"one", at=NOON - timedelta(minutes=5 - each), vocabulary=[f"{each}" * 500])
        for each in range(5)
    ]
    _prune(memory, keep_bytes=1500)
    with memory.reading() as session:
        kept = [one for one in ids if find_prediction(session, one) is not None]
    assert kept == ids[3:]


def test_only_the_best_answers_are_kept_and_what_it_takes_is_told(memory: Memory) -> None:
    answer = [{"label": str(number), "score": 1.0 / number} for number in range(1, 100)]
    with memory.writing() as session:
        image = memory.keep(session, b"one")
        new = [NewPrediction(new_id(), image, 0, None, ("cat", "dog"), answer, 3) for _ in range(2)]
        taken = keep_predictions(session, new, now=NOON)
    with memory.reading() as session:
        rows = [get_prediction(session, one.id) for one in new]
    assert [row.answer for row in rows] == [answer[:20]] * 2
    assert taken == sum(row.bytes for row in rows) + len('["cat", "dog"]')
    assert rows[0].bytes == 3 + len(json.dumps(answer[:20]))


def test_forgetting_an_image_lets_its_vocabulary_go(memory: Memory) -> None:
    _keep(memory, b"one", vocabulary=("owl",))
    correction = memory.submit({"one": "cat"}).corrections[0].id
    with memory.writing() as session:
        forget(session, correction, now=NOON)
    assert _vocabularies(memory) == []


def test_many_may_keep_predictions_of_one_vocabulary_at_once(memory: Memory) -> None:
    kept = together(5, lambda index: _keep(memory, bytes([index])))
    assert all(isinstance(one, str) for one in kept)
    assert _vocabularies(memory) == [["cat", "dog"]]
