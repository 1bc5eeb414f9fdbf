"""From an upright RGB image to what the vision tower takes, in two halves.

`to_pixels` does the geometry and yields bytes, which are cheap to keep and to augment; `normalise`
turns bytes into floats. Together they are bit-equal to open_clip's own eval transform, whose
geometry steps are used as they are.

Surprise: that geometry scales the shortest side first and crops afterwards, so a 1 x 5,000 image
would become 224 x 1,120,000. Beyond `_LONGEST_ASPECT` only what survives the crop is scaled.

Legend: B images, S side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from open_clip.transform import (
    CenterCropOrPad,
    PreprocessCfg,
    ResizeKeepRatio,
    image_transform_v2,
)
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Resize
from torchvision.transforms.functional import pil_to_tensor

_LONGEST_ASPECT = 16.0  # ratio of the sides; ours, far beyond photographs
_GEOMETRY = (Resize, CenterCrop, ResizeKeepRatio, CenterCropOrPad)


@dataclass(frozen=True)
class Preprocessing:
    """How images become input of one encoder; fields as in open_clip's `preprocess_cfg`."""

    image_size: int  # S, pixels
    mean: tuple[float, float, float]  # of each channel, in 0..1
    std: tuple[float, float, float]
    interpolation: str = "bicubic"  # or "bilinear"
    resize_mode: str = "shortest"  # or "longest" (pads) or "squash"
    fill_color: int = 0  # 0..255, of the padding

    @classmethod
    def from_open_clip(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Read open_clip's `preprocess_cfg`. Raises ValueError for an image that is not square."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        if height != width:
            raise ValueError(f"images of {height} x {width} are not square")
        first, second, third = (float(value) for value in config["mean"])
        red, green, blue = (float(value) for value in config["std"])
        return cls(
            image_size=int(height),
            mean=(first, second, third),
            std=(red, green, blue),
            interpolation=str(config.get("interpolation") or "bicubic"),
            resize_mode=str(config.get("resize_mode") or "shortest"),
            fill_color=int(config.get("fill_color") or 0),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for digests and provenance."""
        return asdict(self)

    def to_pixels(self, image: Image.Image) -> Tensor:
        """Scale and crop an RGB image to uint8 [3, S, S]."""
        if max(image.size) > _LONGEST_ASPECT * min(image.size):
            scaled = self._extreme(image)
        else:
            scaled = image
            for step in self._geometry:
                scaled = step(scaled)
        pixels: Tensor = pil_to_tensor(scaled.convert("RGB"))
        return pixels

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] to fp32 [B, 3, S, S] on the same device."""
        # The order of operations is torchvision's (ToTensor, Normalize): bit-equality needs it.
        scaled = pixels.to(torch.float32).div(255)
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return scaled.sub_(mean).div_(std)

    @cached_property
    def _geometry(self) -> tuple[Any, ...]:
        config = PreprocessCfg(
            size=self.image_size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            resize_mode=self.resize_mode,
            fill_color=self.fill_color,
        )
        transform = image_transform_v2(config, is_train=False)
        return tuple(step for step in transform.transforms if isinstance(step, _GEOMETRY))

    def _extreme(self, image: Image.Image) -> Image.Image:
        """The same view of an image that is very long, in memory bounded by S * S."""
        bilinear = self.interpolation == "bilinear"
        filter_ = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
        side, (width, height) = self.image_size, image.size
        if self.resize_mode == "squash":
            return image.resize((side, side), filter_)
        if self.resize_mode == "longest":
            longest = max(width, height)
            size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
            canvas = Image.new("RGB", (side, side), (self.fill_color,) * 3)
            corner = ((side - size[0]) // 2, (side - size[1]) // 2)
            canvas.paste(image.resize(size, filter_), corner)
            return canvas
        shortest = min(width, height)
        left, top = (width - shortest) / 2, (height - shortest) / 2
        box = (left, top, left + shortest, top + shortest)
        return image.resize((side, side), filter_, box=box)
