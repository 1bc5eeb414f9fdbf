"""Everything that can go wrong in this room, as classes made of facts.

EncoderError
├── ImageError            ImageEmpty · ImageTooLarge · ImageTooManyPixels · ImageUndecodable
├── LoadError             UnknownEncoder · UnknownPretrained · WeightsRequired · WeightsUnavailable
│                         · WeightsInvalid · PickledWeights · TokenizerUnavailable
├── UnknownTowerLayout · OutOfMemory
├── ClassifierError       LabelsMissing · TemplatesMissing · TemplateInvalid
└── AdapterError          AdapterTruncated · AdapterTampered · AdapterUnreadable · AdapterForeign
    │                     · AdapterMisplaced · UnknownParameter · DeltaShape
    └── SnapshotError     SnapshotTampered · SnapshotUnreadable · SnapshotForeign
`vlm.errors` has those of vision-language models.
"""

from __future__ import annotations


class EncoderError(Exception):
    """Root of this room's errors; `str(error)` is fit to show to a user."""


class ImageError(EncoderError):
    """The bytes sent as an image cannot be used."""


class ImageEmpty(ImageError):
    def __init__(self) -> None:
        super().__init__("the image has no bytes")


class ImageTooLarge(ImageError):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the image has {size:,} bytes, the limit is {limit:,}")
        self.bytes, self.limit = size, limit


class ImageTooManyPixels(ImageError):
    def __init__(self, width: int, height: int, limit: int) -> None:
        super().__init__(
            f"the image is {width:,} x {height:,} = {width * height:,} pixels, "
            f"the limit is {limit:,}"
        )
        self.width, self.height, self.limit = width, height, limit


class ImageUndecodable(ImageError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the image cannot be decoded: {reason}")
        self.reason = reason


class LoadError(EncoderError):
    """An encoder cannot be loaded."""


class UnknownEncoder(LoadError):
    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(
            f"no encoder {name!r}: {reason or 'neither a folder nor an open_clip model name'}"
        )
        self.name, self.reason = name, reason


class UnknownPretrained(LoadError):
    def __init__(self, name: str, pretrained: str, known: list[str]) -> None:
        super().__init__(
            f"encoder {name!r} has no pretrained weights {pretrained!r}; "
            f"known: {', '.join(known) or 'none'}"
        )
        self.name, self.pretrained, self.known = name, pretrained, known


class WeightsRequired(LoadError):
    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"encoder {name!r} needs the name of its pretrained weights; "
            f"known: {', '.join(known) or 'none'}"
        )
        self.name, self.known = name, known


class WeightsUnavailable(LoadError):
    def __init__(self, name: str, pretrained: str | None, reason: str) -> None:
        super().__init__(f"the weights of {name!r} ({pretrained}) cannot be fetched: {reason}")
        self.name, self.pretrained, self.reason = name, pretrained, reason


class WeightsInvalid(LoadError):
    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} is not a usable encoder: {reason}")
        self.source, self.reason = source, reason


class PickledWeights(LoadError):
    def __init__(self, source: str) -> None:
        super().__init__(f"{source} is not a safetensors file; pickled weights are never opened")
        self.source = source


class TokenizerUnavailable(LoadError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the tokenizer of {name!r} cannot be loaded: {reason}")
        self.name, self.reason = name, reason


class UnknownTowerLayout(EncoderError):
    def __init__(self, layout: str, reason: str, tower: str = "vision") -> None:
        super().__init__(f"{tower} tower {layout!r} is not supported: {reason}")
        self.layout, self.reason, self.tower = layout, reason, tower


class OutOfMemory(EncoderError):
    """It may pass: what else is in memory comes and goes."""

    def __init__(self, device: str) -> None:
        super().__init__(f"there is not enough memory left on {device}")
        self.device = device


class ClassifierError(EncoderError):
    """A zero-shot classifier cannot be built from these words."""


class LabelsMissing(ClassifierError):
    def __init__(self) -> None:
        super().__init__("at least one label is needed")


class TemplatesMissing(ClassifierError):
    def __init__(self) -> None:
        super().__init__("at least one prompt template is needed")


class TemplateInvalid(ClassifierError):
    def __init__(self, template: str) -> None:
        super().__init__(f"prompt template {template!r} must contain {{}} exactly once")
        self.template = template


class AdapterError(EncoderError):
    """An adapter cannot be read, or does not fit this encoder."""


class AdapterTruncated(AdapterError):
    def __init__(self, size: int, expected: int) -> None:
        super().__init__(f"the adapter has {size:,} bytes, at least {expected:,} were expected")
        self.bytes, self.expected = size, expected


class AdapterTampered(AdapterError):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"the adapter's digest is {found}, expected {expected}")
        self.expected, self.found = expected, found


class AdapterUnreadable(AdapterError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"not an adapter file: {reason}")
        self.reason = reason


class AdapterForeign(AdapterError):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"the adapter is for the base encoder {found}, this one is {expected}")
        self.expected, self.found = expected, found


class AdapterMisplaced(AdapterError):
    def __init__(self, expected: str, found: str) -> None:
        fitted, given = (chain or "the base encoder" for chain in (expected, found))
        super().__init__(f"the adapter was fitted on top of {fitted}, not on top of {given}")
        self.expected, self.found = expected, found


class UnknownParameter(AdapterError):
    def __init__(self, name: str) -> None:
        super().__init__(f"the encoder has no parameter {name!r}")
        self.name = name


class DeltaShape(AdapterError):
    def __init__(self, name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
        super().__init__(
            f"the delta of {name!r} is for shape {list(found)}, the weight has {list(expected)}"
        )
        self.name, self.expected, self.found = name, expected, found


class SnapshotError(AdapterError):
    """A snapshot cannot be used; the adapters that it stands for can."""


class SnapshotTampered(SnapshotError):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"the snapshot's digest is {found}, expected {expected}")
        self.expected, self.found = expected, found


class SnapshotUnreadable(SnapshotError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"not a snapshot file: {reason}")
        self.reason = reason


class SnapshotForeign(SnapshotError):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"the snapshot is of the base encoder {found}, this one is {expected}")
        self.expected, self.found = expected, found
