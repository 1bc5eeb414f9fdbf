"""What one process of the service holds, from its start to its stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from anyio import CapacityLimiter, to_thread

from app.answer_desk import AnswerDesk
from app.classification import Classification
from app.deadline import uncounted
from app.images import check_images
from app.metrics import Metrics
from app.prediction_log import PredictionLog
from app.served_encoder import ServedEncoder
from app.served_vlm import ServedVlm
from app.settings import Settings
from app.start import open_ground
from app.visual_answers import VisualAnswers
from app.vital_signs import VitalSigns, folders_of
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from registry.session import close_database

TEXT_FEATURES_KEPT = 100_000
FORWARD_SLOTS = 2  # one decodes while the other computes; more would only share the cores
NEWS_SLOTS = 8  # threads for answers that may wait for a swap; classifying never waits behind them
DECODE_SLOTS = 4  # requests whose images are decoded at once
WRITE_SLOTS = 4  # requests whose images are written at once


class Services:
    """Opened before the port, started with it."""

    def __init__(self, settings: Settings) -> None:
        """Raises what `open_ground` raises."""
        ground = open_ground(settings)
        self.settings = settings
        self.engine = ground.engine
        self.store = ground.store
        self.edit_queue = ground.edit_queue
        self.metrics = Metrics()
        self.edit_queue.on_lost = self.metrics.nudges_lost.inc
        self.predictions = PredictionLog(settings, self.engine, self.store, self.metrics)
        self.encoder = ServedEncoder(settings, self.engine, self.store, self.metrics)
        cache = TextFeatureCache(TEXT_FEATURES_KEPT, settings.data / "text-features")
        self.classification = Classification(
            settings, self.engine, self.encoder, cache, self.predictions, self.metrics
        )
        self.vlm = ServedVlm(settings, self.encoder, self.metrics.vlm)
        self.desk = AnswerDesk(settings.vlm_batch, self.metrics.vlm)
        self.answers = VisualAnswers(settings, self.encoder, self.vlm, self.desk)
        self.vital_signs = VitalSigns(self.engine, self.readiness, folders_of(settings))
        self.forward_slots = CapacityLimiter(FORWARD_SLOTS)
        self.news_slots = CapacityLimiter(NEWS_SLOTS)
        self.decode_slots = CapacityLimiter(DECODE_SLOTS)
        self.write_slots = asyncio.Semaphore(WRITE_SLOTS)
        self.stopping = threading.Event()

    def start(self) -> None:
        """Begins to load the models, to answer questions and to keep predictions."""
        self.predictions.start()
        self.encoder.start()
        self.vlm.start()
        self.desk.start()

    async def check(self, images: Sequence[bytes | None]) -> None:
        """Decodes the images of a request, in threads that wait for nothing else; the request's
        time does not run meanwhile. Raises `ImageRefused`."""
        with uncounted():
            await to_thread.run_sync(check_images, images, self.settings, limiter=self.decode_slots)

    def readiness(self) -> tuple[int, Encoder]:
        """The live version and its encoder. Raises `NotReady` or `DatabaseUnavailable`."""
        found = self.encoder.ready()
        self.vlm.check()
        return found

    def stop(self) -> None:
        """Writes what waits to be written and closes the database."""
        self.desk.stop()
        self.vlm.stop()
        self.encoder.stop()
        self.edit_queue.stop()
        self.predictions.stop()
        close_database(self.engine)
