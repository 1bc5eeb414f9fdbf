"""What can go wrong before anything is opened: the settings and the data folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import ValidationError

from app.errors import DataFolderUnwritable, SettingsInvalid
from app.settings import Settings


def prepare_folder(folder: Path) -> None:
    """Makes the data folder and proves that it can be written to. Raises `DataFolderUnwritable`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataFolderUnwritable(folder, error.strerror or str(error)) from error


def read_settings() -> Settings:
    """The settings in the environment. Raises `SettingsInvalid` naming each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            ("EMEND_" + ".".join(str(part) for part in entry["loc"]).upper(), entry["msg"])
            for entry in error.errors()
        ]
        raise SettingsInvalid(tuple(problems)) from error
