"""Images on every path: broken ones leave nothing behind, odd ones are like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from registry.session import reading
from registry.tables import Artifact, ControlImage, Correction, Prediction
from tests.support import images
from tests.support.service import RunningService, picture, problem_of, running_service

CONTROL = "/control-sets/home/images"
ACCEPTED = {"/classify": 200, "/corrections": 202, CONTROL: 201}
HOSTILE = {**images.HOSTILE, "empty": b"", "truncated": images.truncated(picture(1))}
BOMBS = {"PNG": images.png_bomb(), "TIFF": images.tiff_bomb()}
ODD = {
    "animated": images.animated_gif(),
    "CMYK": images.cmyk_jpeg(),
    "palette": images.transparent_palette_png(),
    "16 bits": images.colour_16_bit_png(),
    "alpha": images.alpha_png(),
    "rotated": images.rotated_jpeg(),
    "one pixel": images.photo_bytes(1, 1),
}
every_path = pytest.mark.parametrize("path", ACCEPTED)


@pytest.fixture(scope="module")
def taker(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Iterator[RunningService]:
    """A service with a control set. It keeps no predictions: they are stored later, and would blur
    what is compared."""
    folder = tmp_path_factory.mktemp("data")
    with running_service(folder, tiny_encoder, keep_predictions=0) as service:
        service.http.put("/label-sets/things", json={"labels": ["cup", "hat"]})
        service.http.put("/control-sets/home", json={"label_set": "things"})
        yield service


def _send(service: RunningService, path: str, *sent: bytes) -> httpx.Response:
    data = {} if path == CONTROL else {"label": "cup"}
    return service.http.post(path, files=[("image", image) for image in sent], data=data)


def _kept(service: RunningService) -> tuple[list[int], set[str]]:
    """Rows that come of images, and the files of the store."""
    tables = (Artifact, Correction, ControlImage, Prediction)
    with reading(service.services.engine) as session:
        rows = [session.scalars(select(func.count()).select_from(each)).one() for each in tables]
    root = Path(service.services.settings.artifacts_location)
    return rows, {file.name for file in root.rglob("*") if file.is_file()}


@every_path
@pytest.mark.parametrize("broken", HOSTILE.values(), ids=HOSTILE)
def test_a_broken_image_is_named_by_its_place_and_nothing_is_kept(
    taker: RunningService, path: str, broken: bytes
) -> None:
    before = _kept(taker)
    answer = _send(taker, path, picture(1), broken)
    assert problem_of(answer, 422)["errors"][0]["field"] == "image[1]"
    assert _kept(taker) == before


@every_path
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(
    taker: RunningService, path: str, bomb: bytes
) -> None:
    before = _kept(taker)
    problem = problem_of(_send(taker, path, picture(1), bomb), 413)
    assert problem["errors"][0]["width"] == 50_000
    assert problem["type"].endswith("image-too-many-pixels")
    assert _kept(taker) == before


@every_path
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_image_is_taken_like_any_other(taker: RunningService, path: str, odd: bytes) -> None:
    answer = _send(taker, path, odd)
    assert answer.status_code == ACCEPTED[path], answer.text


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_image_is_scored_over_all_labels(taker: RunningService, odd: bytes) -> None:
    scores = taker.classify(odd, "a", "b")["predictions"][0]["labels"]
    assert sum(one["score"] for one in scores) == pytest.approx(1)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_correction_is_kept_as_it_came(taker: RunningService, odd: bytes) -> None:
    correction = taker.correct(odd, "cup")["corrections"][0]["id"]
    assert taker.http.get(f"/corrections/{correction}/image").content == odd
