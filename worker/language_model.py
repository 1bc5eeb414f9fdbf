"""The vision-language model over the base encoder, loaded by the first job that needs it.

It is judged and taught with: control questions are put to it over the candidate's encoder, and a
correction may be learnt through its likelihood of the right answer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from encoder.clip import Encoder, Precision
from encoder.vlm.errors import VlmMissing
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel
from worker.errors import VlmNeeded

log = logging.getLogger(__name__)


@dataclass
class LanguageModel:
    """`source` is `bundled` or a folder; None: there is none here. `optional`: nobody asked for it,
    and where this release came without it there is none either."""

    base: Encoder
    source: str | None
    device: str
    precision: Precision
    optional: bool = False
    _loaded: VisionLanguageModel | None = field(default=None, init=False)

    def find(self) -> VisionLanguageModel | None:
        """Loads it if there is one. Raises VlmLoadError."""
        if self._loaded is None and self.source is not None:
            try:
                log.info("loading the vision-language model %s", self.source)
                self._loaded = load_vlm(
                    self.source, self.base, device=self.device, precision=self.precision
                )
            except VlmMissing:
                if not self.optional:
                    raise
                self.source = None
        return self._loaded

    def needed(self, purpose: str) -> VisionLanguageModel:
        """`purpose` says what takes it. Raises VlmNeeded, VlmLoadError."""
        found = self.find()
        if found is None:
            raise VlmNeeded(purpose)
        return found
