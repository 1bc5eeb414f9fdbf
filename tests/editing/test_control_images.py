from __future__ import annotations

import torch

from editing.control import ControlSet
from editing.control_images import ControlImages
from tests.support.edit_task import text_features
from tests.support.tiny_encoder import random_pixels


def test_each_image_is_kept_once_and_every_set_gets_its_own_back() -> None:
    pixels = random_pixels(6)
    sets = [
        ControlSet("whole", pixels, None, text_features(), 1.0, seen=torch.arange(6) == 4),
        ControlSet("part", pixels[[5, 4, 1]], None, text_features(), 1.0),
        ControlSet("other", random_pixels(2, seed=1), None, text_features(), 1.0),
    ]
    images = ControlImages(sets)
    assert len(images) == 8
    together = torch.cat(list(images.chunks(3)))
    for control, own in zip(sets, images.of_each_set(together), strict=True):
        assert torch.equal(own, control.pixels)
    assert [control.seen.tolist() for control in images.sets if control.seen is not None] == [
        [False, False, False, False, True, False],
        [False, True, False],
        [False, False],
    ]
