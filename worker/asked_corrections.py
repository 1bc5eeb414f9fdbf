"""Corrections of answers: how they are judged where there is a vision-language model.

Then its own answer counts: the right one must be likelier than the wrong one, or be the greedy text
where nobody said what was wrong. Without a model their captions are judged like any other label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from editing.questions import AskedCorrections
from registry.tables import Correction
from worker.control_questions import gather_questions
from worker.errors import VlmNeeded
from worker.language_model import LanguageModel
from worker.stored_images import ImageReader, Wanted


@dataclass(frozen=True)
class Asker:
    """Puts corrections to the model of one base encoder."""

    model: LanguageModel
    reader: ImageReader

    def asked(self, corrections: Sequence[Correction]) -> AskedCorrections | None:
        """Those that came with a question, if they are judged by the model.

        Raises VlmNeeded for one that has no caption where there is no model; ImageUnreadable,
        StorageUnavailable, and what loading the model raises.
        """
        rows = [row for row, each in enumerate(corrections) if each.question]
        some = [corrections[row] for row in rows]
        if not some or not self.model.is_there:
            refuse_unteachable(some)
            return None
        vlm = self.model.needed("a correction answers a question")
        images = [str(each.image_sha256) for each in some]
        wanted = {
            each.image_sha256: Wanted(image, f"correction {each.id}")
            for image, each in zip(images, some, strict=True)
        }
        pixels = self.reader.read_as(
            list(wanted.values()), lambda image: vlm.pixels(self.model.base, image)
        )
        by_image = dict(zip(wanted, pixels, strict=True))
        questions = gather_questions(
            vlm,
            images,
            by_image.__getitem__,
            [each.question for each in some],
            [options_of(each) for each in some],
        )
        right = tuple(str(each.answer) for each in some)
        return AskedCorrections(torch.tensor(rows), questions, right)


def options_of(correction: Correction) -> tuple[str, ...]:
    """The right answer and the wrong one; none where only the right one is known."""
    if correction.wrong_answer is None:
        return ()
    return str(correction.answer), correction.wrong_answer


def refuse_unteachable(corrections: Sequence[Correction]) -> None:
    """For where there is no model. Raises VlmNeeded."""
    for each in corrections:
        if not each.label:
            raise VlmNeeded(
                f"the answer of correction {each.id} implies no caption, so that only the"
                " likelihood of the right answer can teach it"
            )
