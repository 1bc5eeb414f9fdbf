"""Every failure this room reports. Each class is made of facts; `str()` is a sentence for people.

RegistryError
├── NotFound: CorrectionMissing, JobMissing, AdapterMissing, LabelSetMissing, ControlSetMissing,
│             PredictionMissing, ArtifactMissing
├── Invalid: LabelInvalid, LabelDuplicate, LabelOutsideSet, NameInvalid, NoteInvalid,
│            QuestionInvalid, BudgetInvalid, CursorInvalid, EmptySubmission
├── Conflict: CorrectionConflict, ControlImageConflict, ControlQuestionConflict, LabelSetNeeded,
│             LabelsInUse, PromotionConflict, JobFinished, NothingToEdit, ClaimLost, BaseMismatch
├── StorageError: StorageFull, StorageUnavailable, ArtifactCorrupt, DataFolderUnwritable
├── DatabaseError: DatabaseUnavailable (OutcomeUnknown), SchemaBehind, SchemaAhead, RevisionUnknown
├── BrokerError: BrokerInvalid, BrokerUnavailable
├── BackupError: StoreHeld, HoldLost, DumpFailed, NotEmpty
└── SecretError: SecretMissing, SecretWeak
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path


class RegistryError(Exception):
    """Any failure of this room."""


# --- absent -------------------------------------------------------------------------------------


class NotFound(RegistryError):
    """A row or file that was asked for by name is not there."""

    noun = "row"

    def __init__(self, key: str | int) -> None:
        self.key = key
        super().__init__(f"no {self.noun} {key!r}")


class CorrectionMissing(NotFound):
    noun = "correction"


class JobMissing(NotFound):
    noun = "edit job"


class AdapterMissing(NotFound):
    noun = "adapter"


class LabelSetMissing(NotFound):
    noun = "label set"


class ControlSetMissing(NotFound):
    noun = "control set"


class PredictionMissing(NotFound):
    noun = "kept prediction"


class ArtifactMissing(NotFound):
    noun = "stored file"


# --- refused as given ---------------------------------------------------------------------------


class Invalid(RegistryError):
    """A value that can never be accepted."""


class LabelInvalid(Invalid):
    """`reason` completes the sentence "the label …"."""

    def __init__(self, label: str, reason: str) -> None:
        self.label = label
        self.reason = reason
        super().__init__(f"the label {label[:60]!r} {reason}")


class LabelDuplicate(Invalid):
    def __init__(self, label: str) -> None:
        self.label = label
        super().__init__(f"the label {label!r} stands twice in the set")


class LabelOutsideSet(Invalid):
    def __init__(self, label: str, label_set: str) -> None:
        self.label = label
        self.label_set = label_set
        super().__init__(f"the label {label!r} is not in the label set {label_set!r}")


class NameInvalid(Invalid):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the name {name[:60]!r} must be 1 to 100 letters, digits, dots, dashes or underscores,"
            " starting with a letter or digit"
        )


class NoteInvalid(Invalid):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the note {reason}")


class QuestionInvalid(Invalid):
    """`part` is the question, an answer or the options; `reason` completes the sentence."""

    def __init__(self, part: str, reason: str) -> None:
        self.part = part
        self.reason = reason
        super().__init__(f"the {part} {reason}")


class BudgetInvalid(Invalid):
    def __init__(self, budget: float) -> None:
        self.budget = budget
        super().__init__(f"the budget {budget} must be a number of points from 0 to 100")


class CursorInvalid(Invalid):
    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        super().__init__(f"the cursor {cursor[:60]!r} was not handed out by this service")


class EmptySubmission(Invalid):
    def __init__(self) -> None:
        super().__init__("a submission needs at least one correction")


# --- refused as things stand --------------------------------------------------------------------


class Conflict(RegistryError):
    """A request that the present state does not allow."""


class CorrectionConflict(Conflict):
    """The image already has another label, or the question about it another answer; these are
    `label` and `earlier_label` then. `earlier_id` is None inside one batch."""

    def __init__(
        self,
        *,
        image_sha256: str,
        label: str,
        earlier_label: str,
        earlier_id: str | None,
        question: str = "",
    ) -> None:
        self.image_sha256 = image_sha256
        self.question = question
        self.label = label
        self.earlier_label = earlier_label
        self.earlier_id = earlier_id
        where = f"correction {earlier_id}" if earlier_id else "the same submission"
        known = f"is labelled {earlier_label!r}"
        if question:
            known = f"has {earlier_label!r} as the answer to {question[:60]!r}"
        super().__init__(
            f"image {image_sha256[:12]}… {known} by {where}, which contradicts {label!r}"
        )


class ControlImageConflict(Conflict):
    def __init__(self, *, control_set: str, image_sha256: str, label: str | None) -> None:
        self.control_set = control_set
        self.image_sha256 = image_sha256
        self.label = label
        super().__init__(
            f"image {image_sha256[:12]}… is already in the control set {control_set!r}"
            f" with the label {label!r}"
        )


class ControlQuestionConflict(Conflict):
    def __init__(self, *, control_set: str, image_sha256: str, question: str) -> None:
        self.control_set = control_set
        self.image_sha256 = image_sha256
        self.question = question
        super().__init__(
            f"the question {question[:60]!r} about image {image_sha256[:12]}… is already in the"
            f" control set {control_set!r}, with another answer or other options"
        )


class LabelSetNeeded(Conflict):
    """Images that are not asked about are classified, which takes the labels of a label set."""

    def __init__(self, control_set: str) -> None:
        self.control_set = control_set
        super().__init__(
            f"the control set {control_set!r} needs a label set: it has images, or is to have"
            " images, that no question is asked about"
        )


class LabelsInUse(Conflict):
    """A label set may not lose what images of a control set are labelled with."""

    def __init__(self, *, label_set: str, control_set: str, labels: Sequence[str]) -> None:
        self.label_set = label_set
        self.control_set = control_set
        self.labels = tuple(labels)
        super().__init__(
            f"the label set {label_set!r} must keep what images of the control set"
            f" {control_set!r} are labelled with: {', '.join(map(repr, self.labels))}"
        )


class PromotionConflict(Conflict):
    """Somebody else promoted first. Both are promotion ids; `found` is the live one."""

    def __init__(self, *, expected: int, found: int | None) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"promotion {expected} is no longer live; {found} is")


class JobFinished(Conflict):
    def __init__(self, job_id: str, status: str) -> None:
        self.job_id = job_id
        self.status = status
        super().__init__(f"edit job {job_id} already ended: {status}")


class NothingToEdit(Conflict):
    def __init__(self) -> None:
        super().__init__("there is no correction that is not applied or under way already")


class ClaimLost(Conflict):
    """The job was taken back, ended or claimed again: this attempt may not write any more."""

    def __init__(self, job_id: str, attempt: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        super().__init__(f"attempt {attempt} no longer holds edit job {job_id}")


class BaseMismatch(Conflict):
    """The data belongs to another base encoder than the one that was loaded."""

    def __init__(self, *, recorded_name: str, recorded: str, name: str, given: str) -> None:
        self.recorded_name = recorded_name
        self.recorded = recorded
        self.name = name
        self.given = given
        super().__init__(
            f"this data belongs to the base encoder {recorded_name!r} ({recorded[:12]}…), but"
            f" {name!r} ({given[:12]}…) was loaded: load that encoder, or use another data folder"
        )


# --- files --------------------------------------------------------------------------------------


class StorageError(RegistryError):
    """The folder or bucket of stored files, or its disk, gave trouble."""


class StorageFull(StorageError):
    def __init__(self, where: str, needed: int | None = None) -> None:
        self.where = where
        self.needed = needed
        amount = f" for {needed} bytes" if needed is not None else ""
        super().__init__(f"no room{amount} left in {where}; nothing was stored")


class StorageUnavailable(StorageError):
    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"cannot use the store {where}: {reason}")


class DataFolderUnwritable(StorageError):
    """The data folder cannot be made or written to."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(f"the data folder {folder} cannot be written to: {reason}")


class ArtifactCorrupt(StorageError):
    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"stored file {expected} now has the checksum {found}")


# --- database and broker ------------------------------------------------------------------------


class DatabaseError(RegistryError):
    """The database cannot be used as it is."""


class DatabaseUnavailable(DatabaseError):
    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"cannot use the database {where}: {reason}")


class OutcomeUnknown(DatabaseUnavailable):
    """The connection was lost while a transaction was being committed: all of it was done, or
    nothing."""


class SchemaBehind(DatabaseError):
    """`found` is None for an empty database."""

    def __init__(self, *, found: str | None, known: str) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"the database is at {found or 'no revision'}, this release needs {known}:"
            " run `python -m app migrate`"
        )


class RevisionUnknown(DatabaseError):
    def __init__(self, revision: str) -> None:
        self.revision = revision
        super().__init__(f"the database cannot be taken back to {revision!r}: no such revision")


class SchemaAhead(DatabaseError):
    def __init__(self, *, found: str, known: str) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"the database is at {found}, which this release (up to {known}) does not know:"
            " it was written by a newer release"
        )


class BrokerError(RegistryError):
    """The broker cannot be used as it was given."""


class BrokerInvalid(BrokerError):
    """`shown` is what may be told of the URL, which is nothing where a password may be anywhere."""

    def __init__(self, shown: str | None = None) -> None:
        self.shown = shown
        given = f"the broker URL {shown!r}" if shown else "the broker URL, which cannot be read,"
        super().__init__(
            f"{given} must be redis://host:port/number or rediss://host:port/number; in its"
            " password, / ? # @ [ and ] are written as %2F %3F %23 %40 %5B and %5D"
        )


class BrokerUnavailable(BrokerError):
    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"cannot use the broker {where}: {reason}")


# --- backup -------------------------------------------------------------------------------------


class BackupError(RegistryError):
    """A backup or its restore cannot be made."""


class StoreHeld(BackupError):
    def __init__(self, until: datetime) -> None:
        self.until = until
        super().__init__(
            f"another backup holds the store until {until:%Y-%m-%d %H:%M} UTC: wait for it, or end"
            " what it left behind with `python -m registry hold --end`"
        )


class HoldLost(BackupError):
    def __init__(self) -> None:
        super().__init__(
            "the hold had ended before, by its time or by `python -m registry hold --end`: files"
            " may be missing from what was copied since; make the backup again"
        )


class DumpFailed(BackupError):
    """`step` is what was being done."""

    def __init__(self, step: str, reason: str) -> None:
        self.step = step
        self.reason = reason
        super().__init__(f"{step} failed: {reason}")


class NotEmpty(BackupError):
    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(f"{where} is not empty; nothing was written to it")


# --- secrets ------------------------------------------------------------------------------------


class SecretError(RegistryError):
    """A password that was to come from a file."""


class SecretMissing(SecretError):
    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"no password can be read from {path}: {reason}")


class SecretWeak(SecretError):
    """`reason` says why; the password itself is told nowhere."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"the password in {path} is too weak: {reason}")
