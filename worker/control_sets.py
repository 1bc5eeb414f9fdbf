"""What an edit must leave alone: the registry's control sets, or the bundled photographs.

The base encoder's answers on them never change, so the pixels and base features of each image stay
in this process between jobs, by content hash; a loader serves one base encoder.

Legend: M images, C labels, G guard images, S image side, E embedding width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from editing.control import ControlSet
from editing.fewshot import choose_guard
from editing.progress import Progress, silent
from encoder.classifier import DEFAULT_TEMPLATES, TextFeatureCache
from encoder.clip import Encoder
from encoder.prompts import Prompt, prompt_features
from worker.errors import ControlLabelUnknown
from worker.everyday import Everyday
from worker.photographs import bundled_photographs
from worker.stored_images import ImageReader, Wanted

BUNDLED = "bundled photographs"
CHUNK = 32
"""Images embedded between two calls of the progress callback."""
IMAGES_AT_MOST = 2000
"""Of one control set, by content hash: the gate holds their pixels in memory."""


Known = tuple[Tensor, Tensor]
"""One image: uint8 [3, S, S], and the base encoder's features, fp32 [E]."""
Texts = tuple[tuple[Prompt, ...], Tensor]
"""C labels under their templates, and the base encoder's features of them, fp32 [C, E]."""


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

    def of_set(self, own: float | None, *, labelled: bool) -> Budgets:
        """A set's own budget is for what is labelled; for the rest where nothing is."""
        if own is None:
            return self
        if labelled:
            return replace(self, forgetting=own)
        return Budgets(own, own)


@dataclass(frozen=True)
class Controls:
    """guard_pixels uint8 [G, 3, S, S] · guard_features fp32 [G, E] of the base encoder · guarded:
    the hashes of these images"""

    sets: tuple[ControlSet, ...]
    guard_pixels: Tensor
    guard_features: Tensor
    bundled: bool
    guarded: frozenset[str] = frozenset()


@dataclass
class ControlLoader:
    """Loads control sets for one base encoder; keeps the images of the last ones."""

    base: Encoder
    reader: ImageReader
    text_cache: TextFeatureCache
    everyday: Everyday
    budgets: Budgets
    _kept: dict[str, Known] = field(default_factory=dict)  # by sha256
    _bundled: list[Known] = field(default_factory=list)

    def load(
        self,
        plans: Sequence[ControlPlan],
        *,
        guard_images: int,
        seed: int,
        progress: Progress = silent,
    ) -> Controls:
        """Raises ImageUnreadable, StorageUnavailable, ControlLabelUnknown; what progress raises."""
        filled = [plan for plan in plans if plan.images]
        self._forget_all_but(filled)
        sets = [self._registry_set(plan, progress) for plan in filled]
        sets = sets or [self._bundled_set(progress)]
        names = [[sha256 for sha256, _ in plan.images] for plan in filled]
        names = names or [[str(row) for row in range(len(self._bundled))]]
        chosen = choose_guard(names, count=guard_images, seed=seed)
        # An image that stands in several sets is guarded once.
        guard = {
            names[index][row]: (index, row) for index, rows in enumerate(chosen) for row in rows
        }
        marked = tuple(_mark(each, rows) for each, rows in zip(sets, chosen, strict=True))
        return Controls(
            marked,
            _gathered([each.pixels for each in sets], guard.values()),
            _gathered([_features(each) for each in sets], guard.values()),
            bundled=not filled,
            guarded=frozenset(guard),
        )

    def _registry_set(self, plan: ControlPlan, progress: Progress) -> ControlSet:
        targets = plan.targets()
        owner = f"control set {plan.name!r}"
        missing = [Wanted(sha256, owner) for sha256, _ in plan.images if sha256 not in self._kept]
        for start in range(0, len(missing), CHUNK):
            progress("waiting", start, len(missing), None)
            chunk = missing[start : start + CHUNK]
            known = self._know(self.reader.read(chunk))
            self._kept.update(zip((each.image_sha256 for each in chunk), known, strict=True))
        return _control_set(
            plan.name,
            [self._kept[sha256] for sha256, _ in plan.images],
            targets,
            *self._texts(plan.labels, plan.templates),
            self.budgets.of_set(plan.budget, labelled=targets is not None),
        )

    def _bundled_set(self, progress: Progress) -> ControlSet:
        if not self._bundled:
            to_pixels = self.base.preprocessing.to_pixels
            pixels = torch.stack([to_pixels(each) for each in bundled_photographs()])
            known: list[Known] = []
            for chunk in torch.split(pixels, CHUNK):
                progress("waiting", len(known), len(pixels), None)
                known += self._know(chunk)
            self._bundled = known
        texts = self._texts(self.everyday.labels, self.everyday.templates)
        return _control_set(BUNDLED, self._bundled, None, *texts, self.budgets)

    def _know(self, pixels: Tensor) -> list[Known]:
        features = self.base.embed_images(pixels).cpu()
        # Clones: a row would keep the whole chunk alive.
        return [(p.clone(), f.clone()) for p, f in zip(pixels, features, strict=True)]

    def _forget_all_but(self, plans: Sequence[ControlPlan]) -> None:
        used = {sha256 for plan in plans for sha256, _ in plan.images}
        self._kept = {sha256: known for sha256, known in self._kept.items() if sha256 in used}
        if plans:
            self._bundled = []

    def _texts(self, labels: Sequence[str], templates: Sequence[str]) -> Texts:
        prompts = tuple((label, tuple(templates) or DEFAULT_TEMPLATES) for label in labels)
        return prompts, prompt_features(self.base, prompts, self.text_cache)


def _control_set(
    name: str,
    known: Sequence[Known],
    targets: Tensor | None,
    prompts: tuple[Prompt, ...],
    text: Tensor,
    budgets: Budgets,
) -> ControlSet:
    return ControlSet(
        name=name,
        pixels=torch.stack([pixels for pixels, _ in known]),
        targets=targets,
        text_features=text,
        prompts=prompts,
        budget=budgets.forgetting,
        flip_budget=budgets.flips,
        base_features=torch.stack([features for _, features in known]),
    )


def _gathered(tensors: Sequence[Tensor], places: Collection[tuple[int, int]]) -> Tensor:
    """Rows of several tensors, named by tensor and row; [0, …] where there is none."""
    if not places:
        return tensors[0][:0]
    return torch.stack([tensors[index][row] for index, row in places])


def _features(control: ControlSet) -> Tensor:
    assert control.base_features is not None, "a control set of this loader has features"
    return control.base_features


def _mark(control: ControlSet, rows: Sequence[int]) -> ControlSet:
    seen = torch.zeros(len(control.pixels), dtype=torch.bool)
    seen[list(rows)] = True
    return replace(control, seen=seen)


def plan_images(labels_by_image: Mapping[str, str | None]) -> tuple[tuple[str, str | None], ...]:
    """By content hash, so that the choice of a bounded number is always the same."""
    return tuple(sorted(labels_by_image.items()))[:IMAGES_AT_MOST]
