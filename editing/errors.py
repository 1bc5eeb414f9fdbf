"""What can go wrong while editing.

EditError
├── InvalidTask          an edit task whose parts do not fit together
│   └── NoImages         nothing to learn from
├── InvalidConfig        a method's or the gate's config is wrong, field by field
├── UnknownMethod        no method of that name
├── VanishingGradient    the loss cannot teach anything on these images
├── LossDiverged         the loss became infinite or not a number
└── EditCancelled        somebody asked to stop; raised by the caller's progress callback
"""

from __future__ import annotations

from collections.abc import Sequence


class EditError(Exception):
    """Any failure of an edit."""


class InvalidTask(EditError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"this edit task is malformed: {reason}")
        self.reason = reason


class NoImages(InvalidTask):
    def __init__(self) -> None:
        super().__init__("it has no corrections to learn from")


class InvalidConfig(EditError):
    """`problems` holds (field, what is wrong with it) pairs."""

    def __init__(self, subject: str, problems: Sequence[tuple[str, str]]) -> None:
        listed = "; ".join(f"{field}: {problem}" for field, problem in problems)
        super().__init__(f"the configuration of {subject} is invalid: {listed}")
        self.subject = subject
        self.problems = tuple(problems)


class UnknownMethod(EditError):
    def __init__(self, method: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no editing method {method!r}; known: {', '.join(known)}")
        self.method = method
        self.known = tuple(known)


class VanishingGradient(EditError):
    def __init__(self, loss: str, reason: str) -> None:
        super().__init__(f"the {loss} loss has no useful gradient here: {reason}")
        self.loss = loss
        self.reason = reason


class LossDiverged(EditError):
    def __init__(self, step: int) -> None:
        super().__init__(f"the loss stopped being a finite number at step {step}")
        self.step = step


class EditCancelled(EditError):
    def __init__(self) -> None:
        super().__init__("the edit was cancelled")
