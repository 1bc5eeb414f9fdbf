from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from registry.broker import HARD_LIMIT, QUEUE, broker_settings
from registry.broker_probe import check_broker
from registry.errors import BrokerInvalid, BrokerUnavailable
from servers.redis import running_redis, why_absent
from tests.support.certificates import make_certificate
from tests.support.servers import require_server


def test_without_a_url_messages_travel_through_a_folder(tmp_path: Path) -> None:
    settings = broker_settings(None, tmp_path)
    again = broker_settings(None, tmp_path)
    options = settings["broker_transport_options"]
    assert again == settings
    # Kombu remembers for the whole process which queues it has bound, whatever their folder.
    queue = f"{QUEUE}-{tmp_path.name}"
    with Connection(settings["broker_url"], transport_options=options) as sender:
        sender.SimpleQueue(queue).put({"job": "x"}, serializer="json")
    with Connection(again["broker_url"], transport_options=options) as receiver:
        message = receiver.SimpleQueue(queue).get(timeout=5)
        assert message.payload == {"job": "x"}
        message.ack()
    assert list((tmp_path / "broker" / "messages").iterdir()) == []


def test_redis_sends_a_message_again_only_after_the_longest_job(tmp_path: Path) -> None:
    settings = broker_settings("redis://127.0.0.1:6379/0", tmp_path)
    visibility = settings["broker_transport_options"]["visibility_timeout"]
    assert timedelta(seconds=visibility) > HARD_LIMIT
    assert settings["broker_url"] == "redis://127.0.0.1:6379/0"
    assert not (tmp_path / "broker").exists()


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:6379/0"])
def test_messages_are_json_acknowledged_late_and_taken_one_by_one(
    tmp_path: Path, url: str | None
) -> None:
    settings = broker_settings(url, tmp_path)
    assert settings["accept_content"] == ["json"]
    assert settings["task_serializer"] == "json"
    assert settings["task_acks_late"]
    assert settings["task_reject_on_worker_lost"]
    assert settings["worker_prefetch_multiplier"] == 1


@pytest.mark.parametrize("url", ["amqp://user:secret@host/", "somewhere", ""])
def test_another_broker_is_refused_without_showing_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(BrokerInvalid) as caught:
        broker_settings(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_an_encrypted_broker_must_show_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate(key, certificate)
    tls = {"tls-cert-file": key.with_name("certificate.pem"), "tls-key-file": key}
    with running_redis(tmp_path, tls=tls) as url:
        trusting = f"{url}?ssl_ca_certs={certificate}"
        check_broker(trusting)
        assert _ping(broker_settings(trusting, tmp_path))
        with pytest.raises(BrokerUnavailable, match="certificate"):
            check_broker(url, patience=0)
        with pytest.raises((OperationalError, RedisConnectionError), match="certificate"):
            _ping(broker_settings(url, tmp_path))


def _ping(settings: dict[str, Any]) -> bool:
    """As Celery connects, in the API and in the worker."""
    options = settings["broker_transport_options"]
    connection = Connection(
        settings["broker_url"], ssl=settings["broker_use_ssl"], transport_options=options
    )
    try:
        return bool(connection.default_channel.client.ping())
    finally:
        connection.release()
