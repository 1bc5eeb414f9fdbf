"""From settings to a worker that can run jobs; whatever is wrong is said in one sentence."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from datetime import UTC, datetime

import torch
from pydantic import ValidationError
from sqlalchemy import Engine

from editing.methods import METHODS, config_schema
from encoder.adapter import empty_adapter
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder, load_encoder
from encoder.errors import EncoderError, UnknownTowerLayout
from encoder.tower import view_text_tower
from registry.adapters import ensure_base
from registry.artifacts import ArtifactStore
from registry.broker_probe import check_broker
from registry.data_folder import prepare_folder
from registry.deployment import problems_of
from registry.errors import DatabaseUnavailable, RegistryError, SchemaBehind
from registry.methods import publish_method
from registry.schema import check
from registry.session import open_database, transaction
from registry.store_probe import check_store
from worker.asked_corrections import Asker
from worker.control_questions import QuestionLoader
from worker.control_sets import Budgets, ControlLoader
from worker.errors import NotReady, WorkerStopping
from worker.everyday import Everyday, read_everyday
from worker.language_model import LanguageModel
from worker.settings import Settings
from worker.stored_images import ImageReader
from worker.training_set import TrainingSetBuilder
from worker.workshop import Workshop

TEXT_FEATURES_KEPT = 100_000
SCHEMA_WAIT_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.25


def read_settings() -> Settings:
    """Raises NotReady naming each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        problems = (f"{name}: {problem}" for name, problem in problems_of(error))
        raise NotReady("; ".join(problems)) from error


def open_workshop(settings: Settings, stopping: threading.Event) -> Workshop:
    """Raises NotReady; WorkerStopping when asked to stop while waiting for the schema."""
    try:
        prepare_folder(settings.data)
        check_broker(settings.broker_location)
        engine = open_database(settings.database_location)
        wait_for_schema(engine, stopping, seconds=SCHEMA_WAIT_SECONDS)
        store = ArtifactStore(settings.artifacts_location)
        check_store(store)
        torch.set_num_threads(settings.torch_threads)
        base = load_encoder(
            settings.encoder,
            settings.pretrained,
            device=settings.device,
            precision=settings.precision,
        )
        announce(engine, store, base)
        everyday = read_everyday()
    except (RegistryError, EncoderError, OSError) as error:
        raise NotReady(str(error)) from error
    return _assemble(settings, stopping, engine, store, base, everyday)


def wait_for_schema(engine: Engine, stopping: threading.Event, *, seconds: float) -> None:
    """Waits a little for the migration. Raises SchemaBehind, SchemaAhead, DatabaseUnavailable."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            check(engine)
        except (SchemaBehind, DatabaseUnavailable):
            if time.monotonic() >= deadline:
                raise
        else:
            return
        if stopping.wait(LOOK_AGAIN_SECONDS):
            raise WorkerStopping


def announce(engine: Engine, store: ArtifactStore, base: Encoder) -> None:
    """Records the base encoder as version 0 and what edits are possible. Raises BaseMismatch."""
    now, frozen_text = datetime.now(UTC), why_text_stays(base)
    with transaction(engine) as session:
        ensure_base(
            session,
            store,
            name=base.name,
            pretrained=base.pretrained,
            base_digest=base.base_digest,
            empty_adapter=empty_adapter(base.name, base.pretrained, base.base_digest),
            now=now,
        )
        for method in METHODS:
            schema = config_schema(method, frozen_text=frozen_text)
            publish_method(session, method, schema, now=now)


def why_text_stays(base: Encoder) -> str | None:
    """Why no edit can move this encoder's text tower; None where one can."""
    try:
        view_text_tower(base.model)
    except UnknownTowerLayout as error:
        return str(error)
    return None


def _assemble(
    settings: Settings,
    stopping: threading.Event,
    engine: Engine,
    store: ArtifactStore,
    base: Encoder,
    everyday: Everyday,
) -> Workshop:
    cache = TextFeatureCache(TEXT_FEATURES_KEPT, settings.data / "text-features")
    reader = ImageReader(store, base.preprocessing)
    budgets = Budgets(settings.forgetting_budget, settings.flip_budget)
    model = LanguageModel(
        base,
        settings.vlm_source,
        settings.device,
        settings.vlm_decoder_precision,
        optional=settings.vlm is None,
    )
    return Workshop(
        name=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
        settings=settings,
        engine=engine,
        store=store,
        base=base,
        controls=ControlLoader(base, reader, cache, everyday, budgets),
        questions=QuestionLoader(model, reader, budgets),
        training_sets=TrainingSetBuilder(reader, cache, everyday.labels, Asker(model, reader)),
        stopping=stopping,
    )
