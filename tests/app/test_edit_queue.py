"""Nudging the worker."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import pytest
from kombu.transport import filesystem
from kombu.transport.virtual.base import BrokerState

from app.edit_queue import EditQueue
from registry.broker import QUEUE, TASK


def test_a_nudge_names_the_task_and_the_job(tmp_path: Path) -> None:
    queue = EditQueue(None, tmp_path)
    queue.nudge("a job")
    queue.nudge("another job")
    sent = [json.loads(file.read_text()) for file in (tmp_path / "broker/messages").iterdir()]
    assert {message["headers"]["task"] for message in sent} == {TASK}
    assert {message["properties"]["delivery_info"]["routing_key"] for message in sent} == {QUEUE}
    assert {message["headers"]["argsrepr"] for message in sent} == {"['a job']", "['another job']"}


def test_a_broker_that_is_away_is_logged_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        queue = EditQueue(url, tmp_path)
        lost: list[None] = []
        queue.on_lost = lambda: lost.append(None)
        with caplog.at_level(logging.WARNING, logger="app"):
            queue.nudge("a job")
    assert "a job" in caplog.text
    assert len(lost) == 1


def test_a_damaged_file_of_the_embedded_broker_is_logged_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a new process: kombu remembers what it has bound.
    monkeypatch.setattr(filesystem.Transport, "global_state", BrokerState())
    queue = EditQueue(None, tmp_path)
    (tmp_path / f"broker/control/{QUEUE}.exchange").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="app"):
        queue.nudge("a job")
    assert "a job" in caplog.text
    queue.nudge("another job")
    assert len(list((tmp_path / "broker/messages").iterdir())) == 1
