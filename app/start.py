"""What must be right before the model is worth loading; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import Engine

from app.edit_queue import EditQueue
from app.errors import SettingsInvalid
from app.settings import Settings
from registry.artifacts import ArtifactStore
from registry.broker_probe import check_broker
from registry.data_folder import prepare_folder
from registry.deployment import problems_of
from registry.errors import RegistryError
from registry.schema import check
from registry.session import open_database
from registry.store_probe import check_store

DATABASE_PATIENCE = 4.0  # seconds; whoever sent a request waits for it


@dataclass(frozen=True)
class Ground:
    """What the service stands on: a database of this release, files, a broker."""

    engine: Engine
    store: ArtifactStore
    edit_queue: EditQueue


def open_ground(settings: Settings) -> Ground:
    """Raises `DataFolderUnwritable`, `DatabaseUnavailable`, `SchemaBehind`, `SchemaAhead`,
    `StorageUnavailable`, `BrokerInvalid`, `BrokerUnavailable` or `SecretError`."""
    prepare_folder(settings.data)
    broker = settings.broker_location
    edit_queue = EditQueue(broker, settings.data)
    check_broker(broker)
    store = ArtifactStore(settings.artifacts_location)
    check_store(store)
    engine = open_database(settings.database_location, patience=DATABASE_PATIENCE)
    try:
        check(engine)
    except RegistryError:
        engine.dispose()
        raise
    return Ground(engine, store, edit_queue)


def read_settings() -> Settings:
    """The settings in the environment. Raises `SettingsInvalid` naming each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsInvalid(problems_of(error)) from error
