"""What can stop an edit job, or the worker itself.

WorkerError
├── NotReady              the worker cannot start; `str(error)` is one sentence for the terminal
├── ImageUnreadable       a stored image cannot be used; the job fails
├── ControlLabelUnknown   a control image's label has left its label set; the job fails
├── VlmNeeded             a question is asked, and this worker has no model; the job fails
├── QuestionUnaskable     a question cannot be put to the model; the job fails
├── NotIdle               a job is due, or the worker stops: what is done ahead waits
└── JobInterrupted        the job is not at fault and returns to the queue
    ├── WorkerStopping        the worker was asked to end
    ├── ClaimMoved            another worker holds the job now
    ├── LiveChanged           another version became live while this one was fitted
    └── CorrectionsChanged    a correction was forgotten before its image was read
"""

from __future__ import annotations


class WorkerError(Exception):
    """Root of this room's errors."""


class NotReady(WorkerError):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The worker cannot start: {reason}")


class ImageUnreadable(WorkerError):
    def __init__(self, image_sha256: str, owner: str, reason: str) -> None:
        self.image_sha256 = image_sha256
        self.owner = owner
        self.reason = reason
        super().__init__(f"image {image_sha256} of {owner} cannot be read: {reason}")


class ControlLabelUnknown(WorkerError):
    def __init__(self, control_set: str, label: str) -> None:
        self.control_set = control_set
        self.label = label
        super().__init__(
            f"control set {control_set!r} has images labelled {label!r}, "
            "which is no longer in its label set"
        )


class VlmNeeded(WorkerError):
    """`purpose` says what takes a vision-language model."""

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        super().__init__(
            f"{purpose}, which takes a vision-language model, and this worker has none: set"
            " EMEND_VLM to `bundled` or to a model's folder"
        )


class QuestionUnaskable(WorkerError):
    """`owner` is the control set or correction whose question it is."""

    def __init__(self, owner: str, reason: str) -> None:
        self.owner = owner
        self.reason = reason
        super().__init__(f"a question of {owner} cannot be put to the model: {reason}")


class NotIdle(WorkerError):
    def __init__(self) -> None:
        super().__init__("the worker has a job to do, or is stopping")


class JobInterrupted(WorkerError):
    """Not a failure of the job."""


class WorkerStopping(JobInterrupted):
    def __init__(self) -> None:
        super().__init__("the worker is stopping")


class ClaimMoved(JobInterrupted):
    def __init__(self, job_id: str, attempt: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        super().__init__(f"attempt {attempt} of edit job {job_id} lost its claim")


class LiveChanged(JobInterrupted):
    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"version {found} became live while {expected} was being edited")


class CorrectionsChanged(JobInterrupted):
    def __init__(self, image_sha256: str) -> None:
        self.image_sha256 = image_sha256
        super().__init__(f"image {image_sha256} was forgotten before it was read")
