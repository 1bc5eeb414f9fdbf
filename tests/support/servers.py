"""What to do where a real server cannot be started."""

from __future__ import annotations

import os

import pytest


def require_server(absent: str | None, *, demanded_by: str) -> None:
    """`absent` says why there is none, or None. Skips the test, unless the environment variable
    `demanded_by` is set, as continuous integration does: then it fails."""
    if absent is None:
        return
    if os.environ.get(demanded_by):
        pytest.fail(absent)
    pytest.skip(absent)
