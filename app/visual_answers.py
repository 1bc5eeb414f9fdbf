"""From a question about an image to its place at the answer desk.

The version that answers is decided here, once: its encoder goes with the question.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from torch import Tensor

from app.answer_desk import AnswerDesk
from app.deadline import uncounted
from app.errors import ModelUnknown
from app.images import decoded
from app.served_encoder import ServedEncoder
from app.served_vlm import ServedVlm
from app.settings import Settings
from app.tickets import Asked, Ticket
from encoder.clip import Encoder
from encoder.vlm.answering import Sampling
from encoder.vlm.dialogue import Turn
from encoder.vlm.model import VisionLanguageModel


@dataclass(frozen=True)
class Wanted:
    """One question; ``version`` None asks the live encoder; ``place`` is where the image was."""

    image: bytes | None
    words: str | tuple[Turn, ...]
    version: int | None
    options: tuple[str, ...] = ()
    sampling: Sampling | None = None
    place: int | str = 0


class VisualAnswers:
    """Hands questions to the desk."""

    def __init__(
        self, settings: Settings, served: ServedEncoder, vlm: ServedVlm, desk: AnswerDesk
    ) -> None:
        self._settings = settings
        self._served = served
        self._vlm = vlm
        self._desk = desk

    def model(self) -> VisionLanguageModel:
        """The model that is served. Raises what `ServedVlm.model` raises."""
        return self._vlm.model()

    def check_model(self, name: str) -> None:
        """Raises `ModelUnknown` for any other name than that of the model that is served."""
        known = self.model().name
        if name != known:
            raise ModelUnknown(name, (known,))

    async def ask(self, wanted: Wanted, decode_slots: CapacityLimiter) -> Ticket:
        """The ticket of a question that is in the queue; leave its context in the end.

        Raises `VlmAbsent`, `VlmLoading`, `VlmUnusable`, `NotReady`, `AdapterMissing`,
        `ImageRefused`, `TooManyQuestions`.
        """
        vlm = self.model()
        if wanted.version is None:
            version, encoder = self._served.live()
        else:
            version, encoder = await to_thread.run_sync(self._served.at, wanted.version)
        pixels = None
        if wanted.image is not None:
            with uncounted():
                pixels = await to_thread.run_sync(
                    self._pixels, vlm, encoder, wanted.image, wanted.place, limiter=decode_slots
                )
        asked = Asked(vlm, version, encoder, pixels, wanted.words, wanted.options, wanted.sampling)
        ticket = Ticket(asked)
        self._desk.submit(ticket)
        return ticket

    def _pixels(
        self, vlm: VisionLanguageModel, encoder: Encoder, image: bytes, place: int | str
    ) -> Tensor:
        """Uint8 [3, S, S]."""
        return vlm.pixels(encoder, decoded(image, place, self._settings))
