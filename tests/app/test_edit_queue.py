"""Nudging the worker."""

from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path

import pytest
from kombu.transport import filesystem
from kombu.transport.virtual.base import BrokerState
from redis import Redis

from app.edit_queue import WAITING_AT_MOST, EditQueue
from registry.broker import QUEUE, TASK
from servers.redis import RedisServer, why_absent
from tests.support.freezing import frozen
from tests.support.servers import require_server
from tests.support.waiting import wait_for


def test_a_nudge_names_the_task_and_the_job(tmp_path: Path) -> None:
    queue = EditQueue(None, tmp_path)
    queue.nudge("a job")
    queue.nudge("another job")
    queue.stop()
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
            queue.stop()
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
        queue.stop()
    assert "a job" in caplog.text
    queue.nudge("another job")
    queue.stop()
    assert len(list((tmp_path / "broker/messages").iterdir())) == 1


def test_a_frozen_broker_delays_nobody_and_is_used_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    server = RedisServer(tmp_path)
    server.start()
    try:
        queue = EditQueue(server.url, tmp_path)
        lost: list[None] = []
        queue.on_lost = lambda: lost.append(None)
        with Redis.from_url(server.url) as client:
            queue.nudge("before")
            wait_for(lambda: client.llen(QUEUE) == 1, seconds=30, what="the first nudge")
            assert server.process is not None
            with frozen(server.process.pid), caplog.at_level(logging.WARNING, logger="app"):
                began = time.monotonic()
                for number in range(WAITING_AT_MOST + 100):
                    queue.nudge(f"job {number}")
                assert time.monotonic() - began < 3.0  # one answer of the broker would be 5
                wait_for(lambda: "job 0" in caplog.text, seconds=30, what="the first loss")
            assert len(lost) >= 100
            queue.nudge("after")
            wait_for(lambda: client.llen(QUEUE) >= 2, seconds=30, what="the nudge after it")
        queue.stop()
    finally:
        server.stop()
