"""The vision-language model over the base encoder, loaded by the first job that needs it.

It is judged and taught with: control questions are put to it over the candidate's encoder, and a
correction may be learnt through its likelihood of the right answer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from encoder.clip import Encoder, Precision
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel
from worker.errors import VlmNeeded

log = logging.getLogger(__name__)


@dataclass
class LanguageModel:
    """`source` is `bundled` or a folder; None: there is none here."""

    base: Encoder
    source: str | None
    device: str
    precision: Precision
    _loaded: VisionLanguageModel | None = field(default=None, init=False)

    @property
    def is_there(self) -> bool:
        """Whether this worker is to have one."""
        return self.source is not None

    def needed(self, purpose: str) -> VisionLanguageModel:
        """The model; `purpose` says what takes it. Raises VlmNeeded, VlmError."""
        if self._loaded is None:
            if self.source is None:
                raise VlmNeeded(purpose)
            log.info("loading the vision-language model %s", self.source)
            self._loaded = load_vlm(
                self.source, self.base, device=self.device, precision=self.precision
            )
        return self._loaded
