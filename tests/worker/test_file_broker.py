"""The embedded broker with a real queue folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection

from registry.broker import broker_settings
from tests.support.waiting import wait_for
from worker.file_broker import broker_url


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
