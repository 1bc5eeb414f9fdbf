"""Reading a photo, and the cut that leaves a group whole."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image

from benchmark.datasets.missing import PhotoUnreadable
from benchmark.datasets.photos import Photo, cut_by_group, decoded
from tests.support.images import HOSTILE, encoded, photo, truncated


def photos_of(groups: dict[int, str], *, frames: int = 2) -> list[Photo]:
    """A label to its groups, a letter each."""

    def never() -> Image.Image:
        raise AssertionError("a cut opens no photo")

    return [
        Photo(f"{label}/{group}{frame}", label, group, never)
        for label, letters in groups.items()
        for group in letters
        for frame in range(frames)
    ]


def split_labels(part: list[Photo]) -> dict[int, str]:
    labels: dict[int, set[str]] = {}
    for each in part:
        labels.setdefault(each.label, set()).add(each.group)
    return {label: "".join(sorted(groups)) for label, groups in labels.items()}


@pytest.mark.parametrize("seed", range(8))
def test_each_class_has_both_parts_and_no_group_is_in_two(seed: int) -> None:
    photos = photos_of({0: "ab", 1: "cdefghijkl", 2: "mno"})
    fitting, validation = cut_by_group(photos, 0.3, seed)
    assert sorted(p.name for p in [*fitting, *validation]) == sorted(p.name for p in photos)
    assert not {p.group for p in fitting} & {p.group for p in validation}
    assert {label: len(each) for label, each in split_labels(validation).items()} == {
        0: 1,
        1: 3,
        2: 1,
    }
    assert set(split_labels(fitting)) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(8))
def test_groups_that_classes_share_stay_whole(seed: int) -> None:
    photos = photos_of({0: "abcdefghij", 1: "abcd", 2: "cdefghij", 3: "abcdefghij"})
    fitting, validation = cut_by_group(photos, 0.3, seed)
    assert not {p.group for p in fitting} & {p.group for p in validation}
    assert set(split_labels(fitting)) == {0, 1, 2, 3}
    assert len(split_labels(validation)[0]) in (2, 3)
    assert split_labels(validation)[0] == split_labels(validation)[3]


def test_a_class_of_one_group_is_fitted() -> None:
    fitting, validation = cut_by_group(photos_of({0: "a", 1: "bc"}), 0.5, 0)
    assert split_labels(fitting)[0] == "a"
    assert set(split_labels(validation)) == {1}


def test_the_cut_is_drawn_by_the_seed_and_keeps_the_order() -> None:
    photos = photos_of({0: "abcdefghij"})
    cuts = [[p.name for p in cut_by_group(photos, 0.3, seed)[1]] for seed in (1, 1, 2)]
    assert cuts[0] == cuts[1] != cuts[2]
    assert cuts[0] == sorted(cuts[0])


@pytest.mark.parametrize("format_", ["PPM", "PNG", "BMP"])
def test_photos_are_read_as_rgb(format_: str) -> None:
    original = photo(31, 17)
    image = decoded("a", encoded(original, format_))
    assert (image.mode, image.size, image.tobytes()) == ("RGB", (31, 17), original.tobytes())


@pytest.mark.parametrize("data", [b"", *HOSTILE.values()], ids=["empty", *HOSTILE])
def test_what_is_no_photo_is_named(data: bytes) -> None:
    with pytest.raises(PhotoUnreadable, match=r"^00001/x\.png cannot be read: .+"):
        decoded("00001/x.png", data)


@pytest.mark.parametrize(
    "damage", [truncated, lambda data: data[:8], lambda data: b"P6\n9 9\n70000\n" + data]
)
def test_a_damaged_ppm_is_named(damage: Callable[[bytes], bytes]) -> None:
    buffer = BytesIO()
    photo().save(buffer, "PPM")
    with pytest.raises(PhotoUnreadable, match="sign"):
        decoded("sign", damage(buffer.getvalue()))
