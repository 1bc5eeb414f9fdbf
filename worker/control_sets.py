"""What an edit must leave alone: the registry's control sets, or the bundled photographs.

The base encoder's answers on them never change, so pixels and base features stay in this process
between jobs, keyed by the base encoder's digest and the images.

Legend: M images, C labels, G guard images, S image side, E embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from editing.control import ControlSet
from editing.fewshot import choose_guard
from encoder.classifier import DEFAULT_TEMPLATES, TextFeatureCache
from encoder.clip import Encoder
from worker.errors import ControlLabelUnknown
from worker.everyday import Everyday
from worker.photographs import bundled_photographs
from worker.stored_images import ImageReader, Wanted
from worker.vocabulary import text_features

BUNDLED = "bundled photographs"
IMAGES_AT_MOST = 2000
"""Of one control set, by content hash: the gate holds their pixels in memory."""


@dataclass(frozen=True)
class ControlPlan:
    """A registry control set as plain facts; `images` are (sha256, label or None) pairs."""

    name: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    images: tuple[tuple[str, str | None], ...]
    budget: float | None

    def targets(self) -> Tensor | None:
        """long [M], -1 without a label; None when none has one. Raises ControlLabelUnknown."""
        if not any(label for _, label in self.images):
            return None
        rows = {label: row for row, label in enumerate(self.labels)}
        for _, label in self.images:
            if label is not None and label not in rows:
                raise ControlLabelUnknown(self.name, label)
        return torch.tensor([-1 if label is None else rows[label] for _, label in self.images])


@dataclass(frozen=True)
class Budgets:
    """Where a control set names none: points of accuracy, and percent of answers flipped."""

    forgetting: float
    flips: float


@dataclass(frozen=True)
class Controls:
    """guard_pixels uint8 [G, 3, S, S] · guard_features fp32 [G, E] of the base encoder"""

    sets: tuple[ControlSet, ...]
    guard_pixels: Tensor
    guard_features: Tensor
    bundled: bool


@dataclass
class ControlLoader:
    """Loads control sets for one base encoder; keeps those of the last job."""

    base: Encoder
    reader: ImageReader
    text_cache: TextFeatureCache
    everyday: Everyday
    budgets: Budgets
    _kept: dict[tuple[str, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def load(self, plans: Sequence[ControlPlan], *, guard_images: int, seed: int) -> Controls:
        """Raises ImageUnreadable, ControlLabelUnknown."""
        filled = [plan for plan in plans if plan.images]
        sets = [self._registry_set(plan) for plan in filled] or [self._bundled_set()]
        self._forget_others(filled)
        chosen = choose_guard([len(each.pixels) for each in sets], count=guard_images, seed=seed)
        marked = [_mark(each, rows) for each, rows in zip(sets, chosen, strict=True)]
        seen = [each.seen for each in marked if each.seen is not None]
        features = [_features(each) for each in marked]
        return Controls(
            tuple(marked),
            torch.cat([s.pixels[rows] for s, rows in zip(marked, seen, strict=True)]),
            torch.cat([f[rows] for f, rows in zip(features, seen, strict=True)]),
            bundled=not filled,
        )

    def _registry_set(self, plan: ControlPlan) -> ControlSet:
        targets = plan.targets()
        pixels, features = self._images(plan)
        default = self.budgets.flips if targets is None else self.budgets.forgetting
        return ControlSet(
            name=plan.name,
            pixels=pixels,
            targets=targets,
            text_features=self._text(plan.labels, plan.templates),
            budget=default if plan.budget is None else plan.budget,
            base_features=features,
        )

    def _bundled_set(self) -> ControlSet:
        key = (self.base.base_digest, BUNDLED)
        if key not in self._kept:
            to_pixels = self.base.preprocessing.to_pixels
            pixels = torch.stack([to_pixels(each) for each in bundled_photographs()])
            self._kept[key] = pixels, self.base.embed_images(pixels).cpu()
        pixels, features = self._kept[key]
        return ControlSet(
            name=BUNDLED,
            pixels=pixels,
            targets=None,
            text_features=self._text(self.everyday.labels, self.everyday.templates),
            budget=self.budgets.flips,
            base_features=features,
        )

    def _images(self, plan: ControlPlan) -> tuple[Tensor, Tensor]:
        key = self._key(plan)
        if key not in self._kept:
            owner = f"control set {plan.name!r}"
            pixels = self.reader.read([Wanted(sha256, owner) for sha256, _ in plan.images])
            self._kept[key] = pixels, self.base.embed_images(pixels).cpu()
        return self._kept[key]

    def _key(self, plan: ControlPlan) -> tuple[str, ...]:
        return (self.base.base_digest, *(sha256 for sha256, _ in plan.images))

    def _forget_others(self, plans: Sequence[ControlPlan]) -> None:
        used = {self._key(plan) for plan in plans} or {(self.base.base_digest, BUNDLED)}
        for key in [key for key in self._kept if key not in used]:
            del self._kept[key]

    def _text(self, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
        prompts = [(label, tuple(templates) or tuple(DEFAULT_TEMPLATES)) for label in labels]
        return text_features(self.base, prompts, self.text_cache)


def _mark(control: ControlSet, rows: Sequence[int]) -> ControlSet:
    seen = torch.zeros(len(control.pixels), dtype=torch.bool)
    seen[list(rows)] = True
    return replace(control, seen=seen)


def _features(control: ControlSet) -> Tensor:
    if control.base_features is None:
        raise TypeError(f"control set {control.name!r} comes without base features")
    return control.base_features


def plan_images(labels_by_image: Mapping[str, str | None]) -> tuple[tuple[str, str | None], ...]:
    """By content hash, so that the choice of a bounded number is always the same."""
    return tuple(sorted(labels_by_image.items()))[:IMAGES_AT_MOST]
