"""The scenario of `tests/deployment/compose` where there is no engine: the same processes on this
machine, with real PostgreSQL and Redis. The tests follow each other on one stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chaos.local_stack import LocalStack, local_stack
from chaos.stack import POSTGRES, REDIS
from client import EmendClient
from registry.edit_jobs import get_job
from registry.session import open_database, reading
from servers import postgres, redis
from tests.support.deployed import (
    agree_within_a_second,
    begin_job,
    improve_and_roll_back,
    known_to,
    times_promoted,
)
from tests.support.servers import require_server

HEALTHY_SECONDS = 60
AS_SHIPPED = {
    "EMEND_ENCODER": "bundled",
    "EMEND_EDIT_BATCH": "1000",
    "EMEND_EDIT_WAIT": "1",
    "EMEND_FLIP_BUDGET": "",
    "EMEND_FORGETTING_BUDGET": "",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """Two replicas and two workers."""
    require_server(postgres.why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    require_server(redis.why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    with local_stack(apis=2, workers=2, settings=AS_SHIPPED) as running:
        yield running


@pytest.fixture(scope="module")
def replicas(stack: LocalStack) -> Iterator[list[EmendClient]]:
    with ExitStack() as clients:
        yield [clients.enter_context(EmendClient(stack.url(api))) for api in stack.apis]


@pytest.fixture
def service(replicas: list[EmendClient]) -> EmendClient:
    """One of the replicas, all ready."""
    for replica in replicas:
        replica.wait_ready(seconds=HEALTHY_SECONDS)
    return replicas[0]


def test_corrections_become_a_better_encoder_and_roll_back(service: EmendClient) -> None:
    improve_and_roll_back(service)


def test_the_replicas_agree_within_a_second(
    service: EmendClient, replicas: list[EmendClient]
) -> None:
    agree_within_a_second(service, replicas)


def test_the_job_of_a_killed_worker_is_done_once_by_the_other_one(
    service: EmendClient, stack: LocalStack
) -> None:
    job = begin_job(service, seed=11)
    stack.kill(_worker_of(stack, job))
    ended = service.wait_job(job)
    assert ended["attempt"] == 2
    assert times_promoted(service, ended["adapter"]) == 1


def test_restarted_servers_cost_nothing_that_was_accepted(
    service: EmendClient, stack: LocalStack
) -> None:
    job = begin_job(service, seed=13)
    for server in (POSTGRES, REDIS):
        stack.stop(server)
        stack.start(server)
    assert service.wait_job(job)["status"] == "succeeded"


def test_everything_is_found_again_after_a_stop(
    service: EmendClient, stack: LocalStack, replicas: list[EmendClient]
) -> None:
    known = known_to(service)
    everything = (*stack.apis, *stack.workers, REDIS, POSTGRES)
    for one in everything:
        stack.stop(one)
    for one in reversed(everything):
        stack.start(one)
    for replica in replicas:
        replica.wait_ready(seconds=HEALTHY_SECONDS)
        assert known_to(replica) == known


def _worker_of(stack: LocalStack, job: str) -> str:
    engine = open_database(stack.database_url)
    try:
        with reading(engine) as session:
            name = get_job(session, job).worker
    finally:
        engine.dispose()
    assert name is not None, "the job has ended already"
    worker = stack.worker_called(name)
    assert worker is not None, f"{name} does not run any more"
    return worker
