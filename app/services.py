"""What one process of the service holds, from its start to its stop."""

from __future__ import annotations

import asyncio
import threading

from anyio import CapacityLimiter

from app.classification import Classification
from app.metrics import Metrics
from app.prediction_log import PredictionLog
from app.served_encoder import ServedEncoder
from app.settings import Settings
from app.start import open_ground
from app.vital_signs import VitalSigns, folders_of
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from registry.promotions import find_live_promotion
from registry.session import reading

TEXT_FEATURES_KEPT = 100_000
FORWARD_SLOTS = 2  # one decodes while the other computes; more would only share the cores
NEWS_SLOTS = 8  # threads for answers that may wait for a swap; classifying never waits behind them
DECODE_SLOTS = 4  # requests whose images are decoded and written at once


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
        self.vital_signs = VitalSigns(self.engine, self.readiness, folders_of(settings))
        self.forward_slots = CapacityLimiter(FORWARD_SLOTS)
        self.news_slots = CapacityLimiter(NEWS_SLOTS)
        self.decode_slots = asyncio.Semaphore(DECODE_SLOTS)
        self.stopping = threading.Event()

    def start(self) -> None:
        """Begins to load the encoder and to keep predictions."""
        self.predictions.start()
        self.encoder.start()

    def readiness(self) -> tuple[int, Encoder]:
        """The live version and its encoder. Raises `NotReady` or the database's error."""
        with reading(self.engine) as session:
            find_live_promotion(session)
        return self.encoder.live()

    def stop(self) -> None:
        """Writes what waits to be written and closes the database."""
        self.encoder.stop()
        self.predictions.stop()
        self.engine.dispose()
