"""LoRSU with the heads that the task pulls at least, as many in each block."""

from __future__ import annotations

from benchmark.head_selection import choosing
from editing.methods import LorsuConfig
from editing.methods.fitting import Subject
from editing.selection import Selection, top_heads


class LowestHeadsConfig(LorsuConfig):
    """LoRSU's numbers."""

    def select(self, subject: Subject) -> Selection:
        return choosing(super().select, subject, lambda scores: top_heads(-scores, self.heads))
