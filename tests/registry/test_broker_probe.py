from __future__ import annotations

import time
from pathlib import Path

import pytest

from registry.broker_probe import ANSWER_SECONDS, check_broker
from registry.errors import BrokerUnavailable
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


def test_a_port_that_is_no_number_is_named() -> None:
    with pytest.raises(BrokerUnavailable):
        check_broker("redis://127.0.0.1:port/0", patience=0)


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
