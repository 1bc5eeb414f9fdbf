from __future__ import annotations

import time
from pathlib import Path

import pytest

from registry.broker_probe import ANSWER_SECONDS, check_broker
from registry.errors import BrokerInvalid, BrokerUnavailable
from servers.ports import free_port
from servers.redis import running_redis, why_absent
from tests.support.servers import require_server

PASSWORD = "s3cret-of-the-queue"


def test_the_embedded_broker_needs_no_answer() -> None:
    check_broker(None)


def test_a_broker_that_is_not_there_is_waited_for_and_then_named() -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port}"):
        check_broker(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", patience=0.5)
    assert 0.5 <= time.monotonic() - began < 0.5 + 2 * ANSWER_SECONDS


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:port/0",
        "redis://[::1",
        "redis/0",
        "broker",
        f"redis://:{PASSWORD[:2]}/{PASSWORD}@127.0.0.1:1/0",
        f"redis://user:12/{PASSWORD}@127.0.0.1:1/0",
        f"redis://:{PASSWORD}?{PASSWORD}@127.0.0.1:1/0",
        f"amqp://user:{PASSWORD}@127.0.0.1:1/0",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_shows_nothing(url: str) -> None:
    with pytest.raises(BrokerInvalid) as refusal:
        check_broker(url, patience=0)
    said = str(refusal.value)
    assert "redis://" in said
    assert PASSWORD[:2] not in said
    assert ":12" not in said
    assert "user" not in said


@pytest.mark.parametrize("query", [f"password={PASSWORD}", "foo=bar", "socket_timeout=soon"])
def test_only_scheme_host_and_port_are_shown(query: str) -> None:
    port = free_port()
    with pytest.raises(BrokerUnavailable) as refusal:
        check_broker(f"redis://[::1]:{port}/0?{query}", patience=0)
    assert refusal.value.where == f"redis://[::1]:{port}"
    assert PASSWORD not in str(refusal.value)


def test_a_real_server_answers_and_a_wrong_password_is_refused_at_once(tmp_path: Path) -> None:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    with running_redis(tmp_path, password=PASSWORD) as url:
        check_broker(url)
        for wrong in (url.replace(PASSWORD, "other"), url.replace(f":{PASSWORD}@", "")):
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1") as refusal:
                check_broker(wrong)
            assert time.monotonic() - began < ANSWER_SECONDS
            assert "other" not in refusal.value.where
