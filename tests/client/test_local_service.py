"""A local service is a world of its own, whatever the environment says."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from client import LocalService
from client.local_service import environment
from tests.support.waiting import wait_for

PRODUCTION = {
    "EMEND_DATABASE_URL": "postgresql://production/emend",
    "EMEND_ARTIFACTS": "s3://production",
    "EMEND_BROKER_URL": "redis://production",
    "EMEND_HOST": "0.0.0.0",
    "EMEND_DATA": "/srv/emend",
    "EMEND_PORT": "80",
    "EMEND_EDIT_BATCH": "1",
    "emend_database_url": "postgresql://production/emend",
}
HARMLESS = {
    "PATH": "/bin",
    "EMEND_DEVICE": "cuda",
    "EMEND_PRECISION": "bf16",
    "EMEND_THREADS": "4",
    "EMEND_LAB": "/lab",
}
ENCODER = {"EMEND_ENCODER": "ViT-L-14", "EMEND_PRETRAINED": "openai"}


def test_only_harmless_settings_are_inherited() -> None:
    own = {"EMEND_DATA": "here", "EMEND_PORT": "4711"}
    assert environment(PRODUCTION | HARMLESS | ENCODER, own) == HARMLESS | ENCODER | own


def test_another_encoder_does_not_meet_inherited_weights() -> None:
    own = {"EMEND_ENCODER": "/models/small"}
    assert environment(ENCODER | HARMLESS, own) == HARMLESS | own


def test_a_local_service_is_not_told_of_production(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EMEND_LAB", raising=False)  # the suite's own, and told on purpose
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    service = LocalService(tmp_path, {"EMEND_THREADS": "1"})
    process = psutil.Process(service.process.pid)
    try:
        # Popen returns once the program is being exchanged; its environment is readable a
        # moment later, and empty until then.
        told = wait_for(process.environ, seconds=10, what="the service's environment")
    finally:
        service.kill()
    assert {name for name in told if name.upper().startswith("EMEND_")} == {
        "EMEND_DATA",
        "EMEND_PORT",
        "EMEND_THREADS",
    }
    assert told["EMEND_DATA"] == str(tmp_path)
