"""Label sets: ordered labels, and the prompt templates to ask for them with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import LabelInvalid, LabelSetMissing, LabelsInUse
from registry.labels import checked_name, normalise_labels
from registry.session import take_turn
from registry.tables import ControlImage, ControlSet, LabelSet


def put_label_set(
    session: Session,
    name: str,
    labels: Sequence[str],
    *,
    templates: Sequence[str] = (),
    now: datetime,
) -> LabelSet:
    """Create or replace. No templates: the encoder's own.

    Raises NameInvalid, LabelInvalid (also for no labels at all), LabelDuplicate, and LabelsInUse
    when images of a control set have a label that would be gone.
    """
    checked_name(name)
    normalised = normalise_labels(labels)
    if not normalised:
        raise LabelInvalid("", "is missing: a label set needs at least one")
    take_turn(session)
    _refuse_to_lose(session, name, kept=set(normalised))
    row = session.get(LabelSet, name)
    if row is None:
        row = LabelSet(name=name)
        session.add(row)
    row.labels = normalised
    row.templates = list(templates)
    row.updated_at = now
    session.flush()
    return row


def _refuse_to_lose(session: Session, name: str, *, kept: set[str]) -> None:
    """Edits could no longer be judged on a control image whose label is outside its set."""
    used = (
        select(ControlImage.control_set, ControlImage.label)
        .join(ControlSet, ControlSet.name == ControlImage.control_set)
        .where(ControlSet.label_set == name)
        .distinct()
    )
    lost: dict[str, list[str]] = {}
    for control_set, label in session.execute(used.order_by(*used.selected_columns)):
        if label is not None and label not in kept:
            lost.setdefault(control_set, []).append(label)
    for control_set, labels in lost.items():
        raise LabelsInUse(label_set=name, control_set=control_set, labels=labels)


def get_label_set(session: Session, name: str) -> LabelSet:
    """Raises LabelSetMissing."""
    row = find_label_set(session, name)
    if row is None:
        raise LabelSetMissing(name)
    return row


def find_label_set(session: Session, name: str) -> LabelSet | None:
    return session.get(LabelSet, name)


def list_label_sets(session: Session) -> list[LabelSet]:
    """All of them, by name."""
    return list(session.scalars(select(LabelSet).order_by(LabelSet.name)))
