"""The embedded broker with a real queue folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection
from kombu.transport.virtual.base import BrokerState

from registry.broker import QUEUE, broker_settings
from tests.support.waiting import wait_for
from worker.celery_app import make_app, nudge
from worker.file_broker import Transport, broker_url
from worker.settings import Settings


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Any]:
    options = broker_settings(None, tmp_path)["broker_transport_options"]
    with Connection(broker_url(), transport_options=options) as connection:
        # Kombu remembers in this process what it has bound: a name of its own for each folder.
        queue = connection.SimpleQueue(tmp_path.name)
        yield queue
        queue.close()


def messages(folder: Path) -> Path:
    return Path(broker_settings(None, folder)["broker_transport_options"]["data_folder_in"])


def bound(folder: Path, exchange: str) -> Path:
    """The list of an exchange's queues."""
    control = broker_settings(None, folder)["broker_transport_options"]["control_folder"]
    return Path(control) / f"{exchange}.exchange"


def receive(queue: Any) -> Any:
    """The next message's contents."""

    def look() -> Any:
        try:
            return queue.get(block=True, timeout=0.2)
        except Empty:
            return None

    message = wait_for(look, seconds=10, what="a message")
    message.ack()
    return message.payload


def test_delivers_what_was_sent(queue: Any) -> None:
    queue.put({"job": 1}, serializer="json")
    assert receive(queue) == {"job": 1}


def test_drops_a_half_written_message_and_goes_on(queue: Any, tmp_path: Path) -> None:
    (messages(tmp_path) / f"0_half.{tmp_path.name}.msg").write_bytes(b"")
    (messages(tmp_path) / f"1_half.{tmp_path.name}.msg").write_bytes(b'{"body": "')
    queue.put({"job": 2}, serializer="json")
    assert receive(queue) == {"job": 2}

    def all_dropped() -> bool:  # in whatever order the folder lists them
        with pytest.raises(Empty):
            queue.get(block=True, timeout=0.2)
        return not list(messages(tmp_path).iterdir())

    wait_for(all_dropped, seconds=10, what="the halves to be dropped")


@pytest.mark.parametrize("left", [b"", b'[["'])
def test_a_list_of_queues_damaged_before_the_start_is_written_anew(
    left: bytes, tmp_path: Path
) -> None:
    options = broker_settings(None, tmp_path)["broker_transport_options"]
    bound(tmp_path, tmp_path.name).write_bytes(left)
    with Connection(broker_url(), transport_options=options) as connection:
        queue = connection.SimpleQueue(tmp_path.name)
        queue.put({"job": 3}, serializer="json")
        assert receive(queue) == {"job": 3}
        queue.close()


def test_a_list_of_queues_damaged_later_is_written_anew(queue: Any, tmp_path: Path) -> None:
    whole = bound(tmp_path, tmp_path.name).read_bytes()
    bound(tmp_path, tmp_path.name).write_bytes(b"")
    queue.put({"job": 4}, serializer="json")
    assert receive(queue) == {"job": 4}
    assert bound(tmp_path, tmp_path.name).read_bytes() == whole


def test_a_nudge_survives_a_damaged_list_of_queues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "global_state", BrokerState())  # as in a new process
    app = make_app(Settings(data=tmp_path))
    bound(tmp_path, QUEUE).write_bytes(b"")
    nudge(app, "a job")
    assert len(list(messages(tmp_path).iterdir())) == 1
    app.close()
