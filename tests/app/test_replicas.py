"""Several API processes on one PostgreSQL database: they agree on what is live, and each says when
it cannot."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from registry import schema
from servers.postgres import create_database, running_server, why_absent
from tests.support.api_process import ApiProcess, Deployment
from tests.support.servers import require_server
from tests.support.service import picture, problem_of
from tests.support.waiting import wait_for

WITHIN_SECONDS = 1.0
GRACE_SECONDS = 3.0


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path
) -> Iterator[Deployment]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    folder = tmp_path_factory.mktemp("deployment")
    with running_server() as server:
        database = create_database(server, "emend")
        schema.upgrade(database)
        yield Deployment(folder, database, tiny_encoder)


@pytest.fixture(scope="module")
def replicas(deployment: Deployment) -> Iterator[tuple[ApiProcess, ApiProcess]]:
    """The second has a store of its own, which lacks what nobody copies into it."""
    (own := deployment.folder / "own").mkdir()
    with (
        deployment.replica("one") as one,
        deployment.replica("other", ARTIFACTS=str(own), READY_GRACE=str(GRACE_SECONDS)) as other,
    ):
        one.wait_until_ready()
        other.wait_until_ready()
        yield one, other


def _copy(deployment: Deployment, digest: str, *, into: str = "own") -> None:
    """Brings a file to another store."""
    for found in deployment.artifacts.rglob(digest):
        target = deployment.folder / into / found.relative_to(deployment.artifacts)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(found, target)


def _ask(http: httpx.Client) -> int:
    """The version that answers."""
    answer = http.post("/classify", files={"image": picture(1)}, data={"label": ["a", "b"]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-adapter-version"] == str(answer.json()["adapter"])
    return int(answer.headers["x-adapter-version"])


def _promote(replica: ApiProcess, version: int) -> None:
    asked = {"version": version, "reason": "by a test"}
    answer = httpx.post(f"{replica.url}/promotions", json=asked, timeout=30)
    assert answer.status_code == 201, answer.text


@contextmanager
def _asked_all_the_time(*replicas: ApiProcess) -> Iterator[dict[str, list[int]]]:
    """The versions that answered each replica's client, by URL; no request may fail."""
    stop = threading.Event()
    seen: dict[str, list[int]] = {replica.url: [] for replica in replicas}

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while not stop.is_set():
                seen[url].append(_ask(http))

    with ThreadPoolExecutor(len(replicas)) as threads:
        askers = [threads.submit(ask, replica.url) for replica in replicas]
        try:
            yield seen
        finally:
            stop.set()
        for asker in askers:
            asker.result()


def test_every_promotion_and_rollback_is_served_by_the_other_within_a_second(
    deployment: Deployment, replicas: tuple[ApiProcess, ApiProcess]
) -> None:
    one, other = replicas
    versions = []
    for seed in (1, 2):
        version, digest = deployment.add_version(seed=seed)
        _copy(deployment, digest)
        versions.append(version)
    took = []
    with _asked_all_the_time(one, other) as seen:
        for turn, version in enumerate([*versions, 0] * 3):
            _promote(replicas[turn % 2], version)
            told, asked = time.monotonic(), len(seen[replicas[1 - turn % 2].url])
            follows = seen[replicas[1 - turn % 2].url]
            wait_for(
                lambda: version in follows[asked:],  # noqa: B023
                seconds=10,
                what=f"version {version} from the other replica",
            )
            took.append(time.monotonic() - told)
    assert max(took) <= WITHIN_SECONDS, took
    for answered in seen.values():
        assert set(answered) == {0, *versions}


def test_a_replica_that_lacks_a_file_goes_on_says_so_and_catches_up(
    deployment: Deployment, replicas: tuple[ApiProcess, ApiProcess]
) -> None:
    one, other = replicas
    _promote(one, 0)
    version, digest = deployment.add_version(seed=3)  # its file never came to the other's store
    with _asked_all_the_time(one, other) as seen:
        _promote(one, version)
        promoted = time.monotonic()
        assert other.status() == 200  # within its grace
        told = wait_for(
            lambda: (
                (answer := httpx.get(f"{other.url}/health/ready")).status_code == 503 and answer
            ),
            seconds=10,
            what="the replica to call itself not ready",
        )
        assert time.monotonic() - promoted >= GRACE_SECONDS
        problem = problem_of(told, 503)
        assert problem["type"].endswith("not-ready")
        assert int(told.headers["retry-after"]) > 0
        (facts,) = problem["errors"]
        assert (facts["should_serve"], facts["serves"]) == (version, 0)
        assert digest in facts["reason"]
        assert "emend_live_unserved 1.0" in httpx.get(f"{other.url}/metrics").text
        assert one.status() == 200
        assert "emend_live_unserved 0.0" in httpx.get(f"{one.url}/metrics").text
        _copy(deployment, digest)
        wait_for(lambda: other.status() == 200, seconds=10, what="the replica to catch up")
        ready = httpx.get(f"{other.url}/health/ready").json()
        assert (ready["live"], ready["promoted"]) == (version, version)
    assert set(seen[other.url]) == {0, version}
    assert other.log().count(f"version {version} cannot be served") == 1


def test_a_rollback_ends_a_setback_at_once_whatever_the_pause(
    deployment: Deployment, replicas: tuple[ApiProcess, ApiProcess]
) -> None:
    one, other = replicas
    _promote(one, 0)
    version, _ = deployment.add_version(seed=4)
    _promote(one, version)
    wait_for(lambda: other.status() == 503, seconds=10, what="the replica to fall behind")
    _promote(one, 0)
    wait_for(lambda: other.status() == 200, seconds=WITHIN_SECONDS, what="the rollback to be heard")


def test_a_replica_that_starts_on_a_version_it_cannot_build_is_not_ready_and_says_why(
    deployment: Deployment, replicas: tuple[ApiProcess, ApiProcess]
) -> None:
    version, digest = deployment.add_version(seed=5)
    _promote(replicas[0], version)
    (empty := deployment.folder / "empty").mkdir()
    with deployment.replica("late", ARTIFACTS=str(empty)) as late:
        told = wait_for(
            lambda: (
                late.status() == 503
                and "cannot be served" in (answer := httpx.get(f"{late.url}/health/ready")).text
                and answer
            ),
            seconds=60,
            what="the reason to be told",
        )
        problem = problem_of(told, 503)
        assert f"version {version}" in problem["detail"]
        assert digest in problem["detail"]
        asked = httpx.post(
            f"{late.url}/classify", files={"image": picture(1)}, data={"label": "a"}, timeout=30
        )
        problem_of(asked, 503)
        _copy(deployment, digest, into="empty")
        late.wait_until_ready()
    _promote(replicas[0], 0)
