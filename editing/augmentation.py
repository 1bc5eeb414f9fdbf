"""Random variations of training images, on tensors. Never mirrored: signs, digits and text would
change their meaning. RandomResizedCrop, colour jitter and grayscale are as in the authors' code.

Legend: B images, S image side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


class Augmentation(BaseModel):
    """How much training images vary; all zero (and crop 1) leaves them as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crop: float = Field(0.6, gt=0, le=1, description="smallest part of the area a crop keeps")
    stretch: float = Field(0.15, ge=0, le=1, description="largest |ln(width/height)| of a crop")
    rotation: float = Field(10.0, ge=0, le=45, description="largest rotation, degrees")
    jitter: float = Field(0.5, ge=0, lt=1, description="brightness, contrast, saturation: 1 ± it")
    grayscale: float = Field(0.1, ge=0, le=1, description="share of images made gray")

    def weaker(self, share: float) -> Augmentation:
        """The same variations, each to this share of its range; 0 leaves images as they are."""
        return Augmentation(
            crop=1 - share + share * self.crop,
            stretch=share * self.stretch,
            rotation=share * self.rotation,
            jitter=share * self.jitter,
            grayscale=share * self.grayscale,
        )

    def apply(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, 3, S, S] -> uint8 [B, 3, S, S]; `generator` lives on the CPU."""
        images = self._warp(pixels.float() / 255, generator)
        images = self._recolour(images, generator)
        return (images.clamp(0, 1) * 255).round().to(torch.uint8)

    def _warp(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.crop == 1 and self.stretch == 0 and self.rotation == 0:
            return images
        area, ratio, across, down, turn = torch.rand(5, images.shape[0], generator=generator)
        area = self.crop + (1 - self.crop) * area
        ratio = torch.exp(self.stretch * (2 * ratio - 1))
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        angle = math.radians(self.rotation) * (2 * turn - 1)
        cosine, sine = angle.cos(), angle.sin()
        right, below = (1 - width) * (2 * across - 1), (1 - height) * (2 * down - 1)
        first = torch.stack([width * cosine, -height * sine, right], dim=1)
        second = torch.stack([width * sine, height * cosine, below], dim=1)
        theta = torch.stack([first, second], dim=1)  # [B, 2, 3]
        grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _recolour(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count = images.shape[0]
        factors = 1 + self.jitter * (2 * torch.rand(3, count, 1, 1, 1, generator=generator) - 1)
        gray = torch.rand(count, 1, 1, 1, generator=generator) < self.grayscale
        brightness, contrast, saturation = factors.to(images.device)
        images = images * brightness
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * contrast
        luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        saturation = saturation.masked_fill(gray.to(images.device), 0.0)
        recoloured: Tensor = luma + (images - luma) * saturation
        return recoloured
