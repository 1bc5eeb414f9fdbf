"""Control sets: images an edit is not about, with a budget of what it may cost them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.errors import (
    ArtifactMissing,
    BudgetInvalid,
    ControlImageConflict,
    ControlSetMissing,
    LabelOutsideSet,
)
from registry.label_sets import get_label_set
from registry.labels import checked_name, normalise_label
from registry.session import take_turn
from registry.tables import Artifact, ControlImage, ControlSet


@dataclass(frozen=True)
class NewControlImage:
    image_sha256: str
    label: str | None = None


@dataclass(frozen=True)
class ControlCounts:
    images: int
    labelled: int


def put_control_set(
    session: Session, name: str, *, label_set: str, budget: float | None = None, now: datetime
) -> ControlSet:
    """Create, or change the label set and budget (points) of one; its images stay.

    Raises NameInvalid, LabelSetMissing, BudgetInvalid, and LabelOutsideSet when a label that its
    images have already is not in the new label set.
    """
    checked_name(name)
    if budget is not None and not (math.isfinite(budget) and 0 <= budget <= 100):
        raise BudgetInvalid(budget)
    take_turn(session)
    labels = set(get_label_set(session, label_set).labels)
    used = select(ControlImage.label).where(ControlImage.control_set == name).distinct()
    for label in session.scalars(used):
        if label is not None and label not in labels:
            raise LabelOutsideSet(label, label_set)
    row = session.get(ControlSet, name)
    if row is None:
        row = ControlSet(name=name, created_at=now)
        session.add(row)
    row.label_set = label_set
    row.budget = budget
    session.flush()
    return row


def add_control_images(session: Session, name: str, images: Sequence[NewControlImage]) -> int:
    """Add kept images, all or none; how many were new. The same image again changes nothing.

    Raises ControlSetMissing, LabelInvalid, LabelOutsideSet, ArtifactMissing, ControlImageConflict.
    """
    take_turn(session)
    control_set = get_control_set(session, name)
    labels = set(get_label_set(session, control_set.label_set).labels)
    kept = select(Artifact.sha256).where(Artifact.sha256.in_([one.image_sha256 for one in images]))
    missing = {one.image_sha256 for one in images} - set(session.scalars(kept))
    for image in sorted(missing):
        raise ArtifactMissing(image)
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
    """How many images each set has, and with a label; every name asked for is a key."""
    counts = {name: ControlCounts(0, 0) for name in names}
    query = (
        select(ControlImage.control_set, func.count(), func.count(ControlImage.label))
        .where(ControlImage.control_set.in_(list(counts)))
        .group_by(ControlImage.control_set)
    )
    for name, images, labelled in session.execute(query):
        counts[name] = ControlCounts(images, labelled)
    return counts
