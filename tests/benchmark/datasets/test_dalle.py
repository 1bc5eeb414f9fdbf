"""Generated pictures of captions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.datasets.dalle import PROMPT, load_dalle
from benchmark.datasets.missing import ClassEmpty, SetMalformed, SetMissing
from benchmark.datasets.tsi import CAPTIONS
from tests.support.official_sets import write_dalle
from tests.support.photo_files import packed, write_photos


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dalle(tmp_path / "dalle")


@pytest.mark.parametrize("archived", [False, True])
def test_a_folder_a_caption_is_a_control_set(root: Path, archived: bool) -> None:
    pictures = load_dalle(packed(root) if archived else root)
    assert (pictures.labels, pictures.templates) == (CAPTIONS, (PROMPT,))
    assert (pictures.train, pictures.updates) == ((), ())
    assert len(pictures.test) == 44
    named = {photo.name: pictures.labels[photo.label] for photo in pictures.test}
    assert named["watching_TV/0001.png"] == "watching TV"
    assert pictures.test[0].open().size == (12, 8)


@pytest.mark.parametrize("folder", ["watching TV", "watching-tv", "around/watching_TV"])
def test_folders_may_be_spelt_in_other_ways(root: Path, folder: str) -> None:
    (root / folder).parent.mkdir(exist_ok=True)
    (root / "watching_TV").rename(root / folder)
    assert len(load_dalle(root).test) == 44


@pytest.mark.parametrize("name", ["flying/1.png", "1.png"])
def test_what_is_no_caption_is_refused_with_the_captions(root: Path, name: str) -> None:
    write_photos(root, [name])
    with pytest.raises(SetMalformed, match=r"none of the captions \(watching TV, lying down, "):
        load_dalle(root)


def test_a_caption_without_pictures_is_named(root: Path) -> None:
    shutil.rmtree(root / "reading_a_book")
    with pytest.raises(ClassEmpty, match="no test photo of reading a book in"):
        load_dalle(root)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match="nowhere"):
        load_dalle(tmp_path / "nowhere")
