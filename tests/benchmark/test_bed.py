"""What is drawn for an update, and what is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.bed import Bed, Visit, parts_of
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.datasets.photos import DataSet
from encoder.clip import load_encoder
from tests.support.tiny_lab import SIGNS, tiny_lab

SIX = DataSet("six", tuple("abcdef"), ("{}",), ((4, 2), (0, 5, 1, 3)), (), ())


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    folder: Path = tiny_lab(tmp_path_factory.mktemp("lab"))
    return Bed(load_encoder(str(folder / "base")), load_lab(folder), load_lab_controls(folder))


def test_the_data_says_which_classes_an_update_has() -> None:
    assert parts_of(SIX, 2) == [
        [Visit(4, 0, 1), Visit(2, 0, 1)],
        [Visit(label, 0, 1) for label in (0, 5, 1, 3)],
    ]


@pytest.mark.parametrize("updates", [1, 3, 4, 6])
def test_other_numbers_of_updates_cut_the_same_order_evenly(updates: int) -> None:
    parts = parts_of(SIX, updates)
    assert [visit.label for part in parts for visit in part] == [4, 2, 0, 5, 1, 3]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(parts) == updates


def test_more_updates_than_classes_bring_classes_again() -> None:
    parts = parts_of(SIX, 9)
    assert [len(part) for part in parts] == [1] * 9
    visits = [visit for part in parts for visit in part]
    assert Counter(visit.label for visit in visits) == {4: 2, 2: 2, 0: 2, 5: 1, 1: 1, 3: 1}
    assert {(visit.turn, visit.turns) for visit in visits if visit.label == 4} == {(0, 2), (1, 2)}


def test_data_without_an_order_has_the_order_of_its_labels() -> None:
    plain = DataSet("plain", tuple("abc"), ("{}",), (), (), ())
    assert [[v.label for v in part] for part in parts_of(plain, 3)] == [[0], [1], [2]]


def test_shots_are_drawn_by_seed_and_stay_when_updates_are_cut_otherwise(bed: Bed) -> None:
    lessons = bed.lessons(updates=2, shots=3, seed=0)
    assert [len(lesson.targets) for lesson in lessons] == [4 * 3, 3 * 3]
    assert [set(lesson.labels) for lesson in lessons] == [
        set(lesson.targets.tolist()) for lesson in lessons
    ]
    same = bed.lessons(updates=2, shots=3, seed=0)
    assert torch.equal(lessons[0].pixels, same[0].pixels)
    other = bed.lessons(updates=2, shots=3, seed=1)
    assert not torch.equal(lessons[0].pixels, other[0].pixels)
    [whole] = bed.lessons(updates=1, shots=3, seed=0)
    joined = lessons[0] + lessons[1]
    assert torch.equal(whole.pixels, joined.pixels)
    assert torch.equal(whole.targets, joined.targets)


def test_a_class_that_comes_again_brings_other_photos(bed: Bed) -> None:
    lessons = bed.lessons(updates=14, shots=4, seed=0)
    assert [len(lesson.targets) for lesson in lessons] == [2] * 14
    first, second = lessons[0], lessons[7]
    assert first.labels == second.labels
    pictures = {picture.numpy().tobytes() for picture in (*first.pixels, *second.pixels)}
    assert len(pictures) == 4


def shared_caption(bed: Bed, *, shots: int, updates: int) -> list[dict[int, set[bytes]]]:
    """Label to pictures of each lesson, where both updates teach label 0, each with photos of its
    own, and label 1 belongs to the second."""
    train = [
        replace(photo, label=row // 12, update=0 if row < 8 else 1)
        for row, photo in enumerate(bed.data.train[:24])
    ]
    both = Bed(bed.base, replace(bed.data, updates=((0,), (0, 1)), train=tuple(train)), {})
    found = []
    for lesson in both.lessons(updates=updates, shots=shots, seed=0):
        pictures: dict[int, set[bytes]] = {label: set() for label in lesson.labels}
        for picture, label in zip(lesson.pixels, lesson.targets.tolist(), strict=True):
            pictures[label].add(picture.numpy().tobytes())
        assert sum(map(len, pictures.values())) == len(lesson.targets)
        found.append(pictures)
    return found


def test_a_label_of_two_updates_is_taught_by_each_with_its_own_photos(bed: Bed) -> None:
    first, second = shared_caption(bed, shots=3, updates=2)
    assert {label: len(pictures) for label, pictures in first.items()} == {0: 3}
    assert {label: len(pictures) for label, pictures in second.items()} == {0: 3, 1: 3}
    assert not first[0] & second[0]
    first, second = shared_caption(bed, shots=0, updates=2)
    assert (len(first[0]), len(second[0]), len(second[1])) == (8, 4, 12)


def test_a_label_of_two_updates_is_taught_once_when_they_are_one(bed: Bed) -> None:
    [whole] = shared_caption(bed, shots=0, updates=1)
    assert {label: len(pictures) for label, pictures in whole.items()} == {0: 12, 1: 12}


def test_no_shots_means_all(bed: Bed) -> None:
    [lesson] = bed.lessons(updates=1, shots=0, seed=0)
    assert len(lesson.targets) == len(bed.data.train)


def test_a_probe_has_as_many_photos_of_every_class(bed: Bed) -> None:
    probe = bed.probe(3)
    assert Counter(probe.targets.tolist()) == dict.fromkeys(range(len(SIGNS)), 3)
    assert probe.names == bed.probe(3).names
    rows = [bed.target.names.index(name) for name in probe.names]
    assert torch.equal(probe.pixels, bed.target.pixels[rows])


def test_the_base_answers_before_anything_is_edited(bed: Bed) -> None:
    features = bed.base.embed_images(bed.controls["wide"].pixels)
    near = (features @ bed.controls["wide"].texts.T).topk(2, dim=1)
    clear = near.values[:, 0] - near.values[:, 1] > 1e-3  # bf16 may turn a tie
    assert bool(clear.any())
    assert torch.equal(bed.before["wide"][clear], near.indices[:, 0][clear])
    assert set(bed.before) == {"target", "ten", "thousand", "wide"}


def test_a_sheets_digest_names_photos_labels_and_texts(bed: Bed) -> None:
    ten, thousand = bed.controls["ten"], bed.controls["thousand"]
    assert ten.names == thousand.names
    assert ten.digest != thousand.digest
    assert ten.at([0, 1]).digest != ten.at([1, 0]).digest
    assert ten.at(range(len(ten.names))).digest == ten.digest
    renamed = replace(ten, prompts=(("another", ("{}",)), *ten.prompts[1:]))
    assert renamed.digest != ten.digest


def test_a_sheets_digest_is_the_same_on_every_machine(bed: Bed) -> None:
    ten = bed.controls["ten"]
    elsewhere = replace(ten, texts=ten.texts + 1e-3)  # rounded otherwise
    assert elsewhere.digest == ten.digest


def test_sets_whose_photos_have_the_same_names_are_asked_about_their_own(bed: Bed) -> None:
    signs = replace(bed.target, name="signs")
    others = replace(
        signs, name="others", pixels=signs.pixels.flip(0), targets=signs.targets.flip(0)
    )
    answers = bed.ask(bed.base, [signs, others])
    assert torch.equal(answers["others"], answers["signs"].flip(0))
    assert not torch.equal(answers["others"], answers["signs"])


def test_photos_are_asked_as_precisely_as_wanted(bed: Bed) -> None:
    exact = Bed(bed.base, bed.data, {}, precision="fp32")
    features = bed.base.embed_images(exact.target.pixels)
    wanted = (features @ exact.target.texts.T).argmax(dim=1)
    assert torch.equal(exact.before["target"], wanted)
