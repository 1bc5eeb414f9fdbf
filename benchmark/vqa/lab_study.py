"""The study on the lab: edits by row and seed, and what they do to the lab's VLM.

Legend: V signs, E embedding width.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.lab import Lab
from benchmark.loop import commit, say
from benchmark.vqa.asking import Sheet, ask
from benchmark.vqa.edit_store import Cost, EditStore
from benchmark.vqa.edits import Guard, continual, refit
from benchmark.vqa.lab_sets import (
    Amounts,
    Update,
    sign_questions,
    sign_updates,
    thing_questions,
    to_pixels,
)
from benchmark.vqa.rows import Row
from benchmark.vqa.runs import Run, RunStore, SetResult
from encoder.classifier import build_classifier
from encoder.clip import Encoder, load_encoder
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel

GUARD_PHOTOS = 256  # of the control photographs, none of which is asked about


class Editing:
    """Edits of the lab's base by row and seed, kept in a folder."""

    def __init__(self, lab: Lab, work: Path, *, shots: int) -> None:
        self._lab = lab
        self._shots = shots
        self._store = EditStore(work)
        self.base = load_encoder(str(lab.encoder))

    def edit(self, row: Row, seed: int) -> tuple[Encoder, Cost]:
        """The row's encoder, fitted unless it is kept already. Raises EditError, EncoderError."""
        if row.method is None:
            return self.base, Cost(0, 0, 0)
        facts, key = self.facts(row, seed), f"{row.name}-seed{seed}"
        if (kept := self._store.find(key, self.base, facts)) is not None:
            return kept
        fitting = refit if row.protocol == "refit" else continual
        tuned = fitting(
            self.base,
            self.texts,
            self._updates(seed),
            row.config(),
            seed=seed,
            guard=self._guard if row.protocol == "refit" else None,
            report=lambda number, steps, loss: say(f"update {number}: {steps} steps, {loss:.3f}"),
        )
        return tuned.encoder, self._store.save(key, self.base, tuned, facts)

    @cached_property
    def texts(self) -> Tensor:
        """fp32 [V, E], the signs' names with their templates."""
        signs = self._lab.label_names("gtsrb")
        return build_classifier(self.base, signs.labels, signs.templates).features

    def facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Everything that an edit depends on."""
        if row.method is None:
            return {"row": row.name}
        return {
            "row": row.name,
            "protocol": row.protocol,
            "method": row.method,
            "settings": dict(row.settings),
            "shots": self._shots,
            "seed": seed,
        }

    def _updates(self, seed: int) -> list[Update]:
        return sign_updates(self._lab, self.base, shots=self._shots, seed=seed)

    @cached_property
    def _guard(self) -> Guard:
        files = [file for each in self._lab.folders("control.zip").values() for _, file in each]
        spread = files[:: max(1, len(files) // GUARD_PHOTOS)]
        return Guard.of(self.base, to_pixels(self.base, spread))


class Asking:
    """The lab's VLM, and what it is asked before and after."""

    def __init__(self, lab: Lab, vlm: Path, editing: Editing, amounts: Amounts) -> None:
        """Raises VlmError, LabMissing."""
        self._editing = editing
        base = editing.base
        self._vlm: VisionLanguageModel = load_vlm(str(vlm), base, device="cpu", precision="fp32")
        self._vlm_digest = _digest(vlm)
        self._target = Sheet.of(sign_questions(lab, amounts), self._vlm, base)
        self._control = Sheet.of(thing_questions(lab, amounts), self._vlm, base)
        rows = {label: row for row, label in enumerate(lab.label_names("gtsrb").labels)}
        self._signs = torch.tensor(
            [rows[each.options[each.answer]] for each in self._target.questions]
        )

    def run(self, row: Row, seed: int, store: RunStore) -> Run:
        """Edit and ask, unless that is kept already. Raises EditError, EncoderError."""
        facts = self._facts(row, seed)
        if (kept := store.find(row.name, seed, facts)) is not None:
            return kept
        encoder, cost = self._editing.edit(row, seed)
        target, control = self._target, self._control
        run = Run(
            row=row.name,
            seed=seed,
            facts=facts,
            cost=cost,
            target=SetResult.of(target, ask(self._vlm, encoder, target)),
            control=SetResult.of(control, ask(self._vlm, encoder, control)),
            classifier=self._classified(encoder),
            commit=commit(),
        )
        store.save(run)
        return run

    def _facts(self, row: Row, seed: int) -> dict[str, Any]:
        asked = {"target": self._target.digest, "control": self._control.digest}
        return {**self._editing.facts(row, seed), "vlm": self._vlm_digest, "asked": asked}

    def _classified(self, encoder: Encoder) -> float:
        """Percent of the target's photos that the encoder itself gives the right of all signs."""
        features = encoder.embed_images(self._target.pixels).cpu()
        answers = (features @ self._editing.texts.T).argmax(dim=1)
        return round(100 * (answers == self._signs).float().mean().item(), 3)


def _digest(folder: Path) -> str:
    """Names a VLM's weights."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
