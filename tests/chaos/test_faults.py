"""A fault counts where its effect is certain."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from redis import Redis

from chaos import faults
from chaos.faults import Faults
from chaos.ledger import Answer
from chaos.messages import Duplicator, flush
from chaos.stack import Window
from registry.broker import QUEUE
from servers import redis
from servers.redis import running_redis
from tests.chaos.history import NOON, answer
from tests.support.servers import require_server
from tests.support.waiting import wait_for

JOB = "one job sent to both workers"
DISK = "artifact disk full"


class FewServices:
    """As much of a stack as these faults touch; `answers` get `told` once the disk is full."""

    database_url, broker_url = "no database", "no broker"
    workers = ("worker-1", "worker-2")

    def __init__(self, away: list[Window], told: list[Answer]) -> None:
        self._away = away
        self._told = told
        self.answers: list[Answer] = [answer(status=507)]
        self.full = False

    def windows(self) -> list[Window]:
        return self._away

    def fill_disk(self) -> None:
        self.full = True
        self.answers += self._told

    def free_disk(self) -> None:
        self.full = False


def inject(kind: str, stack: FewServices) -> bool:
    injecting = Faults(stack, random.Random(1), stack.answers)  # type: ignore[arg-type]
    injecting.inject(kind)
    (one,) = injecting.injected
    assert not stack.full
    return one.done


@pytest.mark.parametrize(("status", "done"), [(507, True), (503, False)])
def test_a_full_disk_counts_once_a_client_was_told(
    status: int, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "FULL_SECONDS", 0.0)
    monkeypatch.setattr(faults, "TOLD_SECONDS", 0.1)
    assert inject(DISK, FewServices([], [answer(status=status)])) is done


@pytest.mark.parametrize(
    ("away", "done"),
    [([], True), ([Window("worker-2", NOON, None)], False), ([Window("api-1", NOON, None)], True)],
)
def test_a_job_goes_to_both_workers_only_while_both_run(
    away: list[Window], done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(faults, "STRIKE_SECONDS", 0.1)
    monkeypatch.setattr(faults, "looking", NoDatabase)
    monkeypatch.setattr(faults, "queued_job", lambda _: "job")
    monkeypatch.setattr(faults, "send_to_all", lambda _, job, __: sent.append(job))
    assert inject(JOB, FewServices(away, [])) is done
    assert bool(sent) is done


@pytest.mark.timeout(60)
def test_the_broker_itself_counts_what_was_sent(tmp_path: Path) -> None:
    require_server(redis.why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    messages = [b'{"headers": {"id": "%d"}}' % number for number in range(3)]
    with running_redis(tmp_path) as url, Redis.from_url(url) as broker:
        broker.lpush(QUEUE, messages[0])  # before anybody hears it
        duplicator = Duplicator(url)
        duplicator.start()
        wait_for(
            lambda: any(one["cmd"] == "monitor" for one in broker.client_list()),
            seconds=10,
            what="the duplicator to listen",
        )
        for message in messages[1:]:
            broker.lpush(QUEUE, message)
        wait_for(
            lambda: (duplicator.duplicated, duplicator.counted) == (2, 3),
            seconds=10,
            what="both counts",
        )
        flush(url)
        duplicator.stop()
    assert (duplicator.duplicated, duplicator.counted) == (2, 3)


class NoDatabase:
    def __init__(self, _url: str) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
