"""Which items of a submission are new, which say what stands already, which contradict it.

An image has one label, and one answer to each question about it: what two corrections must share
to be about the same thing is their `key`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import CorrectionConflict
from registry.questions import question_digest
from registry.tables import Correction

Key = tuple[str, str]
"""An image's hash, and that of the question; '' for the label."""


@dataclass(frozen=True)
class NewCorrection:
    """`vocabulary`: the labels the wrong prediction chose from, when it is known. With a `question`
    there is an `answer`, and no `label` means the caption that the answer implies."""

    image_sha256: str
    label: str | None = None
    label_set: str | None = None
    vocabulary: Sequence[str] | None = None
    predicted: str | None = None
    note: str | None = None
    question: str = ""
    answer: str | None = None
    wrong_answer: str | None = None

    @property
    def key(self) -> Key:
        return self.image_sha256, question_digest(self.question)

    @property
    def says(self) -> tuple[str, str | None]:
        """Two corrections of one key contradict each other unless they agree in this."""
        return self.label or "", self.answer


def key_of(row: Correction) -> Key:
    """Of one that is not forgotten."""
    return str(row.image_sha256), row.question_sha256


def first_of_each(items: Sequence[NewCorrection]) -> dict[Key, NewCorrection]:
    """The first item of each key. Raises CorrectionConflict for one that contradicts it."""
    first: dict[Key, NewCorrection] = {}
    for item in items:
        known = first.setdefault(item.key, item)
        if known.says != item.says:
            raise _conflict(item, known.says, None)
    return first


def standing(session: Session, keys: Iterable[Key]) -> dict[Key, Correction]:
    """The live correction of each key that has one."""
    wanted = set(keys)
    query = select(Correction).where(
        Correction.image_sha256.in_({image for image, _ in wanted}),
        Correction.superseded_by.is_(None),
        Correction.forgotten_at.is_(None),
    )
    rows = {key_of(row): row for row in session.scalars(query)}
    return {key: row for key, row in rows.items() if key in wanted}


def not_known_yet(
    wanted: Mapping[Key, NewCorrection], earlier: Mapping[Key, Correction], *, replace: bool
) -> dict[Key, NewCorrection]:
    """What is to be stored. Raises CorrectionConflict where that needs `replace`."""
    fresh: dict[Key, NewCorrection] = {}
    for key, item in wanted.items():
        known = earlier.get(key)
        if known is not None and _same(item, known, replace=replace):
            continue
        if known is not None and not replace:
            raise _conflict(item, (known.label, known.answer), known.id)
        fresh[key] = item
    return fresh


def _same(item: NewCorrection, known: Correction, *, replace: bool) -> bool:
    """Whether the item says nothing new; another label set does, to whoever asks to replace."""
    other_set = item.label_set is not None and item.label_set != known.label_set
    return item.says == (known.label, known.answer) and not (replace and other_set)


def _conflict(
    item: NewCorrection, earlier: tuple[str, str | None], correction_id: str | None
) -> CorrectionConflict:
    label, answer = item.says
    other_answer = answer != earlier[1]
    return CorrectionConflict(
        image_sha256=item.image_sha256,
        label=str(answer if other_answer else label),
        earlier_label=str(earlier[1] if other_answer else earlier[0]),
        earlier_id=correction_id,
        question=item.question if other_answer else "",
    )
