"""Control sets: images an edit is not about, with a budget of what it may cost them.

Images are classified between the labels of the set's label set; questions about images are
`registry.control_questions`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.errors import (
    ArtifactMissing,
    BudgetInvalid,
    ControlImageConflict,
    ControlSetMissing,
    LabelOutsideSet,
    LabelSetNeeded,
)
from registry.label_sets import get_label_set
from registry.labels import checked_name, normalise_label
from registry.session import take_turn
from registry.tables import Artifact, ControlImage, ControlQuestion, ControlSet


@dataclass(frozen=True)
class NewControlImage:
    image_sha256: str
    label: str | None = None


@dataclass(frozen=True)
class ControlCounts:
    """`images` that are classified, and the questions asked about these or other images."""

    images: int
    labelled: int
    questions: int = 0
    answered: int = 0


def put_control_set(
    session: Session,
    name: str,
    *,
    label_set: str | None,
    budget: float | None = None,
    now: datetime,
) -> ControlSet:
    """Create, or change the label set and budget (points) of one; its images and questions stay.

    Raises NameInvalid, LabelSetMissing, BudgetInvalid, LabelOutsideSet when a label that its
    images have already is not in the new label set, and LabelSetNeeded when it has images to
    classify and would have no label set.
    """
    checked_name(name)
    if budget is not None and not (math.isfinite(budget) and 0 <= budget <= 100):
        raise BudgetInvalid(budget)
    take_turn(session)
    _check_labels(session, name, label_set)
    row = session.get(ControlSet, name)
    if row is None:
        row = ControlSet(name=name, created_at=now)
        session.add(row)
    row.label_set = label_set
    row.budget = budget
    session.flush()
    return row


def _check_labels(session: Session, name: str, label_set: str | None) -> None:
    known = None if label_set is None else set(get_label_set(session, label_set).labels)
    used = select(ControlImage.label).where(ControlImage.control_set == name).distinct()
    for label in session.scalars(used):
        if label_set is None or known is None:
            raise LabelSetNeeded(name)
        if label is not None and label not in known:
            raise LabelOutsideSet(label, label_set)


def add_control_images(session: Session, name: str, images: Sequence[NewControlImage]) -> int:
    """Add kept images, all or none; how many were new. The same image again changes nothing.

    Raises ControlSetMissing, LabelSetNeeded, LabelInvalid, LabelOutsideSet, ArtifactMissing,
    ControlImageConflict.
    """
    take_turn(session)
    control_set = get_control_set(session, name)
    if control_set.label_set is None:
        raise LabelSetNeeded(name)
    labels = set(get_label_set(session, control_set.label_set).labels)
    refuse_unkept(session, [one.image_sha256 for one in images])
    added = 0
    for one in images:
        label = None if one.label is None else normalise_label(one.label)
        if label is not None and label not in labels:
            raise LabelOutsideSet(label, control_set.label_set)
        known = session.get(ControlImage, (name, one.image_sha256))
        if known is None:
            session.add(ControlImage(control_set=name, image_sha256=one.image_sha256, label=label))
            added += 1
        elif known.label != label:
            raise ControlImageConflict(
                control_set=name, image_sha256=one.image_sha256, label=known.label
            )
    session.flush()
    return added


def refuse_unkept(session: Session, images: Collection[str]) -> None:
    """Raises ArtifactMissing for an image whose file is not on record. For this room."""
    kept = select(Artifact.sha256).where(Artifact.sha256.in_(images))
    for image in sorted(set(images) - set(session.scalars(kept))):
        raise ArtifactMissing(image)


def get_control_set(session: Session, name: str) -> ControlSet:
    """Raises ControlSetMissing."""
    row = session.get(ControlSet, name)
    if row is None:
        raise ControlSetMissing(name)
    return row


def list_control_sets(session: Session) -> list[ControlSet]:
    """All of them, by name."""
    return list(session.scalars(select(ControlSet).order_by(ControlSet.name)))


def list_control_images(session: Session, name: str) -> list[ControlImage]:
    """All images of a set, by hash."""
    query = select(ControlImage).where(ControlImage.control_set == name)
    return list(session.scalars(query.order_by(ControlImage.image_sha256)))


def control_counts(session: Session, names: Iterable[str]) -> dict[str, ControlCounts]:
    """How many images each set has, and with a label, how many questions it asks, and with an
    expected answer; every name asked for is a key."""
    names = list(names)
    images = _counted(session, ControlImage.control_set, ControlImage.label, names)
    questions = _counted(session, ControlQuestion.control_set, ControlQuestion.answer, names)
    return {name: ControlCounts(*images[name], *questions[name]) for name in names}


def _counted(
    session: Session,
    control_set: InstrumentedAttribute[str],
    known: InstrumentedAttribute[str | None],
    names: Sequence[str],
) -> dict[str, tuple[int, int]]:
    """How many rows each set has, and in how many of them it is known what is right."""
    query = select(control_set, func.count(), func.count(known))
    rows = session.execute(query.where(control_set.in_(names)).group_by(control_set))
    return dict.fromkeys(names, (0, 0)) | {name: (n, k) for name, n, k in rows}
