"""The vision-language model over the served encoder: none, or loaded at the start or when asked.

It has no vision tower of its own: whoever asks brings the encoder of a version along, so that it
moves with the live pointer. It is loaded by a thread of its own, after the base encoder, and
classifying waits for none of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from app.errors import NotReady, VlmAbsent, VlmLoading, VlmLost, VlmUnusable
from app.served_encoder import ServedEncoder
from app.settings import Settings
from app.vlm_metrics import VlmMetrics
from encoder.errors import EncoderError
from encoder.pool import BASE_VERSION
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel

logger = logging.getLogger(__name__)
LOOK_EVERY = 0.2  # seconds


State = Literal["not asked yet", "loading", "loaded", "unusable"]


class ServedVlm:
    """Gives the model once it is loaded; until then it says why not."""

    def __init__(self, settings: Settings, served: ServedEncoder, metrics: VlmMetrics) -> None:
        self._settings = settings
        self._source = settings.vlm_source
        self._served = served
        self._metrics = metrics
        self._model: VisionLanguageModel | None = None
        self._problem: Exception | None = None
        self._begun = threading.Lock()  # taken once, by whoever begins to load
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served-vlm", daemon=True)
        self.on_failure: Callable[[Exception], None] = _log_failure

    @property
    def is_wanted_at_start(self) -> bool:
        """Whether this process is not ready without it."""
        return self._source is not None and self._settings.vlm_load == "start"

    @property
    def state(self) -> State:
        """Where the model stands, if there is to be one."""
        if self._model is not None:
            return "loaded"
        if self._problem is not None:
            return "unusable"
        return "loading" if self._begun.locked() else "not asked yet"

    @property
    def name(self) -> str | None:
        """What it is called: by its own name once it is loaded, before by where it comes from."""
        return self._source if self._model is None else self._model.name

    def start(self) -> None:
        """Begins to load it, unless that is left to the first who asks."""
        if self.is_wanted_at_start:
            self._begin()

    def stop(self) -> None:
        """A load under way is left to the end of the process."""
        self._stopping.set()
        if self._begun.locked():
            self._thread.join(timeout=LOOK_EVERY * 5)

    def model(self) -> VisionLanguageModel:
        """The model. Raises `VlmAbsent`, `VlmLoading` (having begun to load), `VlmUnusable`."""
        if self._model is not None:
            return self._model
        if self._source is None:
            raise VlmAbsent
        if self._problem is not None:
            raise VlmUnusable(_sentence(self._problem))
        self._begin()
        raise VlmLoading(self._source)

    def check(self) -> None:
        """Raises `VlmLoading` where the process is not ready without the model."""
        if self.is_wanted_at_start and self._model is None:
            raise VlmLoading(str(self._source))

    def _begin(self) -> None:
        if self._begun.acquire(blocking=False):
            self._thread.start()

    def _run(self) -> None:
        begun = time.monotonic()
        failure: Exception = VlmLost()
        try:
            self._load()
        except (EncoderError, OSError) as problem:
            failure = problem
        finally:
            if self._model is None and not self._stopping.is_set():
                self._fail(failure)
        if self._model is not None:
            self._metrics.loaded.set(1)
            seconds = time.monotonic() - begun
            logger.info("questions are answered by %r, after %.1f s", self._model.name, seconds)

    def _fail(self, problem: Exception) -> None:
        self._problem = problem
        logger.error("the vision-language model cannot be served: %s", _sentence(problem))
        if self.is_wanted_at_start:
            self.on_failure(problem)

    def _load(self) -> None:
        settings = self._settings
        while not self._stopping.is_set():
            try:
                base = self._served.pool.get(BASE_VERSION)
            except NotReady:
                self._stopping.wait(LOOK_EVERY)
                continue
            self._model = load_vlm(
                str(self._source),
                base,
                device=settings.device,
                precision=settings.vlm_decoder_precision,
            )
            return


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return problem.strerror or type(problem).__name__
    return str(problem)


def _log_failure(error: Exception) -> None:
    logger.error("questions cannot be answered: %s", error)
