"""`/promotions` over HTTP."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from registry.promotions import live_promotion, promote
from registry.session import transaction
from tests.support.service import RunningService, picture, problem_of, running_service


def test_a_promotion_serves_at_once_and_rolls_back_to_the_same_answers(
    service: RunningService,
) -> None:
    image = picture(1)
    before = service.classify(image, "a", "b")
    version = service.add_adapter(seed=1)
    answer = service.http.post("/promotions", json={"version": version, "reason": "try"})
    promotion = answer.json()
    assert answer.status_code == 201
    assert (promotion["version"], promotion["replaces"], promotion["id"]) == (version, 1, 2)
    promoted = service.classify(image, "a", "b")
    assert promoted["adapter"] == version
    assert promoted["predictions"][0]["labels"] != before["predictions"][0]["labels"]
    service.http.post("/promotions", json={"version": 0, "reason": "roll back"})
    after = service.classify(image, "a", "b")
    assert after["predictions"][0]["labels"] == before["predictions"][0]["labels"]
    history = service.http.get("/promotions").json()["promotions"]
    assert [one["version"] for one in history] == [0, version, 0]
    assert [one["reason"] for one in history][:2] == ["roll back", "try"]


def test_another_replica_follows_within_a_second(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = tmp_path / "data"
    with (
        running_service(folder, tiny_encoder) as one,
        running_service(folder, tiny_encoder) as other,
    ):
        version = one.add_adapter(seed=1)
        other.classify(picture(1), "a")
        assert one.http.post("/promotions", json={"version": version}).status_code == 201
        deadline = time.monotonic() + 1.0
        while other.classify(picture(1), "a")["adapter"] != version:
            assert time.monotonic() < deadline


def test_who_reads_of_a_version_is_answered_by_it(service: RunningService) -> None:
    """A worker promotes; whoever hears of it from this process is not answered by the former."""
    versions = [service.add_adapter(seed=1), service.add_adapter(seed=2)]
    for version in versions * 5:
        with transaction(service.services.engine) as session:
            live = live_promotion(session)
            promote(session, version, replaces=live.id, reason="by a worker", now=datetime.now(UTC))
        assert service.http.get("/adapters/live").json()["version"] == version
        assert service.classify(picture(1), "a", "b")["adapter"] == version


def test_no_request_fails_or_mixes_versions_while_versions_change(
    service: RunningService,
) -> None:
    image = picture(1)
    versions = [0, service.add_adapter(seed=1), service.add_adapter(seed=2)]
    expected = {
        version: service.classify(image, "a", "b", adapter=version)["predictions"][0]["labels"]
        for version in versions
    }
    stop = threading.Event()

    def ask() -> list[int]:
        seen = []
        with httpx.Client(base_url=service.url, timeout=30) as http:
            while not stop.is_set():
                answer = http.post(
                    "/classify", files=[("image", image)] * 3, data={"label": ["a", "b"]}
                )
                assert answer.status_code == 200
                body = answer.json()
                assert answer.headers["x-adapter-version"] == str(body["adapter"])
                for prediction in body["predictions"]:
                    scores = {one["label"]: one["score"] for one in prediction["labels"]}
                    wanted = {one["label"]: one["score"] for one in expected[body["adapter"]]}
                    assert scores == pytest.approx(wanted, abs=1e-5)
                seen.append(body["adapter"])
        return seen

    with ThreadPoolExecutor(3) as threads:
        askers = [threads.submit(ask) for _ in range(3)]
        for turn in range(12):
            version = versions[turn % 3]
            answer = service.http.post("/promotions", json={"version": version})
            assert answer.status_code == 201
            assert service.classify(image, "a")["adapter"] == version
        stop.set()
        seen = [asker.result() for asker in askers]
    assert all(len(answers) > 3 for answers in seen)
    assert {version for answers in seen for version in answers} == set(versions)


def test_of_two_promotions_at_once_none_is_lost(service: RunningService) -> None:
    versions = [service.add_adapter(seed=seed) for seed in range(4)]
    barrier = threading.Barrier(len(versions))

    def promote(version: int) -> int:
        with httpx.Client(base_url=service.url, timeout=30) as http:
            barrier.wait()
            answer = http.post("/promotions", json={"version": version})
            if answer.status_code == 409:
                assert problem_of(answer, 409)["type"].endswith("promotion-conflict")
            return answer.status_code

    with ThreadPoolExecutor(len(versions)) as threads:
        statuses = list(threads.map(promote, versions))
    assert set(statuses) <= {201, 409}
    history = service.http.get("/promotions").json()["promotions"]
    assert len(history) == 1 + statuses.count(201)
    assert [one["replaces"] for one in history] == [*range(len(history) - 1, 0, -1), None]
    assert service.classify(picture(1), "a")["adapter"] == history[0]["version"]


def test_a_decision_by_an_older_look_is_refused(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    stale = {"version": version, "expected_live": 1}
    problem = problem_of(service.http.post("/promotions", json=stale), 409)
    assert problem["errors"][0]["found"] == 0
    fresh = {"version": version, "expected_live": 0}
    assert service.http.post("/promotions", json=fresh).status_code == 201


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"version": 9}, 404),
        ({"version": -1}, 422),
        ({"version": "0"}, 422),
        ({"version": 1.5}, 422),
        ({"version": None}, 422),
        ({"reason": "none"}, 422),
        ({"version": 0, "force": True}, 422),
        ({"version": 0, "reason": "x" * 5000}, 422),
        ([], 422),
    ],
)
def test_a_wrong_promotion_changes_nothing(
    shared_service: RunningService, content: object, status: int
) -> None:
    problem_of(shared_service.http.post("/promotions", json=content), status)
    assert len(shared_service.http.get("/promotions").json()["promotions"]) == 1
