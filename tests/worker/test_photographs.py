from __future__ import annotations

from PIL import Image, ImageChops

from worker.photographs import bundled_photographs, cut_crops, read_photograph


def test_the_crops_are_many_different_and_always_the_same() -> None:
    first, second = bundled_photographs(), bundled_photographs()
    assert len(first) == 126
    assert [each.tobytes() for each in first] == [each.tobytes() for each in second]
    assert len({each.tobytes() for each in first}) == len(first)
    assert {each.mode for each in first} == {"RGB"}


def test_crops_are_squares_inside_the_photograph_and_the_first_is_the_central_one() -> None:
    photograph = read_photograph("sklearn", "datasets/images/china.jpg")
    crops = cut_crops(photograph, count=20, seed="any")
    assert all(each.width == each.height <= min(photograph.size) for each in crops)
    spare = (photograph.width - photograph.height) // 2
    centre = photograph.crop((spare, 0, spare + photograph.height, photograph.height))
    assert ImageChops.difference(crops[0], centre).getbbox() is None


def test_a_square_photograph_of_one_pixel_still_gives_crops() -> None:
    assert [each.size for each in cut_crops(Image.new("RGB", (1, 1)), count=2, seed="")] == [
        (1, 1),
        (1, 1),
    ]
