"""The folder that a process writes what is its own to, and the embedded database and store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from registry.errors import DataFolderUnwritable


def prepare_folder(folder: Path) -> None:
    """Makes the data folder and proves that it can be written to. Raises DataFolderUnwritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataFolderUnwritable(folder, error.strerror or str(error)) from error
