"""What can go wrong with a vision-language model, as classes made of facts.

EncoderError
└── VlmError              NamesUnmappable · NotFinite
    ├── VlmLoadError      VlmMissing · VlmInvalid · VlmLibraryMissing · TowerForeign
    └── PromptError       PromptTooLong · DialogueInvalid · AnswerTooLong
                          · OptionsMissing · OptionBlank · SamplingInvalid
"""

from __future__ import annotations

from encoder.errors import EncoderError


class VlmError(EncoderError):
    """Root of the errors of vision-language models."""


class VlmLoadError(VlmError):
    """A vision-language model cannot be loaded."""


class VlmMissing(VlmLoadError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"no vision-language model {name!r}: {reason}")
        self.name, self.reason = name, reason


class VlmInvalid(VlmLoadError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not a usable vision-language model: {reason}")
        self.name, self.reason = name, reason


class VlmLibraryMissing(VlmLoadError):
    def __init__(self, library: str) -> None:
        super().__init__(
            f"vision-language models need {library}, which is not installed (extra 'vlm')"
        )
        self.library = library


class TowerForeign(VlmLoadError):
    """It was made for another vision tower than the one that is served."""

    def __init__(self, expected: str, found: str, reason: str) -> None:
        super().__init__(
            f"the vision-language model was made for the tower {expected!r}, "
            f"the served encoder is {found!r}: {reason}"
        )
        self.expected, self.found, self.reason = expected, found, reason


class NamesUnmappable(VlmError):
    """A tower or a parameter has no counterpart in transformers' CLIP."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject} has no name in transformers' CLIP: {reason}")
        self.subject, self.reason = subject, reason


class NotFinite(VlmError):
    """Weights that overflowed, in a version of the encoder or in half precision."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} became infinite or no number at all: nothing can be answered")
        self.what = what


class PromptError(VlmError):
    """These turns cannot be put to the model."""


class PromptTooLong(PromptError):
    """`tokens` are at least so many where nobody `counted` them."""

    def __init__(self, tokens: int, limit: int, *, counted: bool = True) -> None:
        least = "" if counted else "at least "
        super().__init__(
            f"the prompt has {least}{tokens:,} tokens, with its answer it may have {limit:,}"
        )
        self.tokens, self.limit = tokens, limit


class DialogueInvalid(PromptError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"this dialogue cannot be put to the model: {reason}")
        self.reason = reason


class OptionsMissing(PromptError):
    def __init__(self) -> None:
        super().__init__("at least one option is needed")


class OptionBlank(PromptError):
    def __init__(self, option: str) -> None:
        super().__init__(f"the option {option!r} has no words")
        self.option = option


class AnswerTooLong(PromptError):
    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the prompt and its longest answer have {tokens:,} tokens, the limit is {limit:,}"
        )
        self.tokens, self.limit = tokens, limit


class SamplingInvalid(PromptError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"answers cannot be sampled like this: {reason}")
        self.reason = reason
