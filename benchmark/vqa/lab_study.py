"""The study on the lab: edits by row and seed, and what they do to the lab's VLM.

Legend: V signs, E embedding width.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.edit_store import EditStore
from benchmark.lab import Lab
from benchmark.loop import say
from benchmark.vqa.asking import Sheet, ask
from benchmark.vqa.edits import (
    Cost,
    Guard,
    Teaching,
    answers,
    captions,
    continual,
    continual_decoder,
    together,
)
from benchmark.vqa.lab_sets import (
    Amounts,
    Update,
    sign_questions,
    sign_updates,
    thing_questions,
    to_pixels,
    validation_sign_questions,
    validation_thing_questions,
    validation_updates,
)
from benchmark.vqa.rows import Row
from benchmark.vqa.runs import Run, RunStore, SetResult
from editing.methods import LoraConfig
from encoder.classifier import build_classifier
from encoder.clip import Encoder
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel

GUARD_PHOTOS = 256  # the first of the control photographs, none of which is asked about


class VlmNeeded(Exception):
    """A row is edited through a VLM's answers, and there is none."""

    def __init__(self, row: Row) -> None:
        super().__init__(f"{row.name} is edited through the answers of a VLM: name one with --vlm")


@dataclass(frozen=True)
class Reader:
    """A VLM over the lab's base, and what its weights are called by."""

    vlm: VisionLanguageModel
    digest: str

    @classmethod
    def load(cls, folder: Path, base: Encoder) -> Reader:
        """Raises VlmError."""
        vlm = load_vlm(str(folder), base)
        found = hashlib.sha256()
        for path in sorted(folder.glob("*.safetensors")):
            found.update(path.read_bytes())
        return cls(vlm, found.hexdigest()[:16])


class Editing:
    """Edits of the lab's base by row and seed, kept in a folder."""

    def __init__(
        self,
        lab: Lab,
        base: Encoder,
        work: Path,
        *,
        shots: int,
        reader: Reader | None = None,
        validation: bool = False,
    ) -> None:
        """`validation`: learn from some of the train tracks, and leave the others to be asked."""
        self.validation = validation
        self._lab = lab
        self._shots = shots
        self._store = EditStore(work)
        self._reader = reader
        self.base = base

    def edit(self, row: Row, seed: int) -> tuple[Encoder, Cost]:
        """The row's encoder, fitted unless it is kept already.

        Raises VlmNeeded, EditError, EncoderError.
        """
        if row.method is None:
            return self.base, Cost(0, 0, 0)
        facts, key = self.facts(row, seed), f"{row.name}-seed{seed}"
        if (kept := self._store.find(key, self.base, facts)) is not None:
            return kept[0], Cost(**kept[1])
        updates = self._updates(seed)
        encoder, cost = continual(
            self.base,
            [together(updates)] if row.protocol == "refit" else updates,
            self._teaching(row, seed),
            row.config(),
            seed=seed,
            report=lambda number, steps, loss: say(f"update {number}: {steps} steps, {loss:.3f}"),
        )
        self._store.save(key, self.base, encoder, facts, beside=asdict(cost))
        return encoder, cost

    def edit_decoder(self, row: Row, seed: int) -> tuple[VisionLanguageModel, Cost]:
        """The row's VLM over the unedited encoder; not kept. Raises VlmNeeded, EditError."""
        config = row.config()
        assert isinstance(config, LoraConfig)
        updates, vlm = self._updates(seed), self._vlm(row)
        return continual_decoder(self.base, vlm, updates, self._labels, config, seed=seed)

    def _teaching(self, row: Row, seed: int) -> Teaching:
        guard = self._guard if row.protocol == "refit" else Guard.none(self.base)
        if row.objective == "caption":
            return captions(self.texts, guard)
        return answers(self._vlm(row), self._labels, guard, seed)

    def _vlm(self, row: Row) -> VisionLanguageModel:
        if self._reader is None:
            raise VlmNeeded(row)
        return self._reader.vlm

    def _updates(self, seed: int) -> list[Update]:
        draw = validation_updates if self.validation else sign_updates
        return draw(self._lab, self.base, shots=self._shots, seed=seed)

    @property
    def _labels(self) -> list[str]:
        return self._lab.label_names("gtsrb").labels

    @cached_property
    def texts(self) -> Tensor:
        """fp32 [V, E], the signs' names with their templates."""
        signs = self._lab.label_names("gtsrb")
        return build_classifier(self.base, signs.labels, signs.templates).features

    def facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Everything that an edit depends on."""
        if row.method is None:
            return {"row": row.name}
        facts: dict[str, Any] = {
            "row": row.name,
            "protocol": row.protocol,
            "method": row.method,
            "config": row.config().model_dump(mode="json"),
            "base": self.base.base_digest,
            "shots": self._shots,
            "seed": seed,
        }
        if self.validation:
            facts["validation"] = True
        if row.objective == "likelihood" and self._reader is not None:
            facts["taught by"] = self._reader.digest
        return facts

    @cached_property
    def _guard(self) -> Guard:
        files = [file for each in self._lab.folders("control.zip").values() for _, file in each]
        return Guard.of(self.base, to_pixels(self.base, files[:GUARD_PHOTOS]))


class Asking:
    """The lab's VLM, and what it is asked before and after."""

    def __init__(self, lab: Lab, reader: Reader, editing: Editing, amounts: Amounts) -> None:
        """Raises LabMissing."""
        self._editing = editing
        self._reader = reader
        vlm, base = reader.vlm, editing.base
        signs, things = sign_questions, thing_questions
        if editing.validation:
            signs, things = validation_sign_questions, validation_thing_questions
        self._target = Sheet.of(signs(lab, amounts), vlm, base)
        self._control = Sheet.of(things(lab, amounts), vlm, base)
        rows = {label: row for row, label in enumerate(lab.label_names("gtsrb").labels)}
        self._signs = torch.tensor(
            [rows[each.options[each.answer]] for each in self._target.questions]
        )

    def run(self, row: Row, seed: int, store: RunStore, commit: str) -> Run:
        """Edit and ask, by the code of this commit, unless that is kept already.

        The first seed's encoders are asked as classifiers too. Raises VlmNeeded, EditError,
        EncoderError.
        """
        facts = self._facts(row, seed)
        if (kept := store.find(row.name, seed, facts)) is not None:
            return kept
        encoder, vlm = self._editing.base, self._reader.vlm
        if row.part == "decoder":
            vlm, cost = self._editing.edit_decoder(row, seed)
        else:
            encoder, cost = self._editing.edit(row, seed)
        target, control = self._target, self._control
        run = Run(
            row=row.name,
            seed=seed,
            facts=facts,
            cost=cost,
            target=SetResult.of(target, ask(vlm, encoder, target)),
            control=SetResult.of(control, ask(vlm, encoder, control)),
            classifier=None if seed else self._classified(encoder),
            commit=commit,
        )
        store.save(run)
        return run

    def _facts(self, row: Row, seed: int) -> dict[str, Any]:
        asked = {"target": self._target.digest, "control": self._control.digest}
        return {**self._editing.facts(row, seed), "vlm": self._reader.digest, "asked": asked}

    def _classified(self, encoder: Encoder) -> float:
        """Percent of the target's photos that the encoder itself gives the right of all signs."""
        features = encoder.embed_images(self._target.pixels).cpu()
        answers = (features @ self._editing.texts.T).argmax(dim=1)
        return round(100 * (answers == self._signs).float().mean().item(), 3)
