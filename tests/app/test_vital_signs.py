"""What `/metrics` tells of database, queue, readiness and disks, and that it always tells."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from app import vital_signs
from app.errors import NotReady
from app.vital_signs import Look, VitalSigns
from servers.postgres import PostgresServer, create_database, why_absent
from tests.support.freezing import frozen
from tests.support.servers import require_server
from tests.support.service import RunningService, picture, problem_of, running_service
from tests.support.waiting import wait_for

OF_THE_DATABASE = (
    "emend_database_seconds",
    "emend_promoted_version",
    "emend_edit_jobs",
    "emend_oldest_due_job_seconds",
    "emend_running_job_heartbeat_age_seconds",
    "emend_lost_attempts",
)
SECONDS_OF_A_SCRAPE = 5.0


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    above = Path(tempfile.mkdtemp(prefix="emend-postgres-"))
    above.chmod(0o755)  # the server's user must get there
    server = PostgresServer(above / "server")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(above)


def scraped(service: RunningService) -> dict[str, float]:
    """Every sample of a scrape, as it is written."""
    text = service.http.get("/metrics").raise_for_status().text
    return {
        f"{one.name}{sorted(one.labels.items()) or ''}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_a_scrape_says_what_runs_and_whether_it_is_well(service: RunningService) -> None:
    samples = scraped(service)
    assert samples["emend_database_up"] == samples["emend_ready"] == 1
    assert 0 < samples["emend_database_seconds"] < SECONDS_OF_A_SCRAPE
    assert samples["emend_promoted_version"] == samples["emend_live_version"] == 0
    assert samples["process_resident_memory_bytes"] > 1024**2
    assert samples["emend_disk_free_bytes[('folder', 'data')]"] > 0
    assert (
        samples["emend_disk_free_bytes[('folder', 'artifacts')]"]
        <= samples["emend_disk_bytes[('folder', 'artifacts')]"]
    )
    text = service.http.get("/metrics").text
    assert re.search(r'emend_build_info\{encoder=".+",version=".+"\} 1.0', text)
    assert text.count("# TYPE emend_edit_jobs gauge") == 1


def test_the_queue_is_told_as_it_stands(service: RunningService) -> None:
    before = scraped(service)
    assert before["emend_edit_jobs[('status', 'queued')]"] == 0
    service.correct(picture(1), "a")
    after = scraped(service)
    assert after["emend_edit_jobs[('status', 'queued')]"] == 1
    assert after["emend_edit_jobs[('status', 'failed')]"] == 0


def test_problems_are_counted_by_their_type(service: RunningService) -> None:
    problem_of(service.http.get("/edit-jobs/a"), 404)
    problem_of(service.http.get("/nowhere"), 404)
    problem_of(service.http.post("/promotions", json={"version": "x"}), 422)
    samples = scraped(service)
    for slug in ("edit-job-unknown", "not-found", "request-invalid"):
        assert samples[f"emend_problems_total[('type', '{slug}')]"] == 1


def test_without_its_database_a_scrape_tells_all_that_the_process_knows_itself(
    database: PostgresServer, tmp_path: Path, tiny_encoder: Path
) -> None:
    url = create_database(database.url, "emend")
    with running_service(tmp_path / "data", tiny_encoder, database_url=url) as service:
        service.classify(picture(1), "a")
        assert scraped(service)["emend_database_up"] == 1
        database.stop()
        begun = time.monotonic()
        samples = scraped(service)
        assert time.monotonic() - begun < SECONDS_OF_A_SCRAPE
        assert samples["emend_database_up"] == 0
        assert samples["emend_classified_images_total"] == 1
        assert not [name for name in samples if name.startswith(OF_THE_DATABASE)]
        wait_for(lambda: scraped(service)["emend_ready"] == 0, seconds=20, what="it to be noticed")
        database.start()
        wait_for(
            lambda: scraped(service)["emend_ready"] == 1, seconds=20, what="the database to be back"
        )
        samples = scraped(service)
        assert samples["emend_database_up"] == 1
        assert samples["emend_edit_jobs[('status', 'queued')]"] == 0


def test_a_database_that_hangs_does_not_hang_a_scrape(
    database: PostgresServer, tmp_path: Path, tiny_encoder: Path
) -> None:
    url = create_database(database.url, "emend")
    with running_service(tmp_path / "data", tiny_encoder, database_url=url) as service:
        assert database.process is not None
        scraped(service)
        with frozen(database.process.pid):
            for _ in range(3):
                begun = time.monotonic()
                samples = scraped(service)
                assert time.monotonic() - begun < SECONDS_OF_A_SCRAPE
                assert samples["emend_database_up"] == 0
                assert "emend_disk_free_bytes[('folder', 'data')]" in samples


def test_a_service_that_stops_while_its_database_hangs_leaves_no_connection_open(
    database: PostgresServer, tmp_path: Path, tiny_encoder: Path
) -> None:
    """Who still asks the database then is not waited for."""
    url = create_database(database.url, "emend")
    opened, closed = list[object](), list[object]()
    with ExitStack() as until_thawed:
        with running_service(tmp_path / "data", tiny_encoder, database_url=url) as service:
            engine = service.services.engine
            engine.dispose()  # those of the start, which were not counted
            event.listen(engine, "connect", lambda connection, _: opened.append(connection))
            event.listen(engine, "close", lambda connection, _: closed.append(connection))
            assert scraped(service)["emend_database_up"] == 1
            assert database.process is not None
            until_thawed.enter_context(frozen(database.process.pid))
        assert opened
    wait_for(
        lambda: set(map(id, opened)) <= set(map(id, closed)), seconds=10, what="them to be closed"
    )


def test_a_disk_that_hangs_does_not_hang_a_scrape(
    service: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vital_signs, "LOOK_SECONDS", 0.5)
    answers, usage = threading.Event(), shutil.disk_usage
    monkeypatch.setattr(
        vital_signs.shutil, "disk_usage", lambda folder: answers.wait() and usage(folder)
    )
    signs = VitalSigns(service.services.engine, lambda: None, {"gone": tmp_path})
    try:
        for _ in range(3):
            found = {one.name for one in anyio.run(signs.metrics)}
            assert "emend_disk_free_bytes" not in found
            assert "emend_edit_jobs" in found
        assert len(_looking()) == 1  # however often it is asked
    finally:
        answers.set()
    wait_for(lambda: not _looking(), seconds=5, what="the look to come back")
    monkeypatch.undo()
    assert "emend_disk_free_bytes" in {one.name for one in anyio.run(signs.metrics)}


def _looking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "look-at-disks"]


def test_who_scrapes_at_the_same_time_sees_the_same() -> None:
    go_on, looked = threading.Event(), list[int]()

    def see() -> int:
        looked.append(1)
        assert go_on.wait(30)
        return len(looked)

    async def two() -> list[int | None]:
        look = Look("look", see)
        first = asyncio.ensure_future(look.in_time())
        second = asyncio.ensure_future(look.in_time())
        await asyncio.sleep(0)
        go_on.set()
        return [await first, await second, await look.in_time()]

    assert asyncio.run(two()) == [1, 1, 2]


def test_a_process_that_is_not_ready_says_so(service: RunningService, tmp_path: Path) -> None:
    def not_ready() -> None:
        raise NotReady("it loads")

    signs = VitalSigns(service.services.engine, not_ready, {"gone": tmp_path / "gone"})
    found = {one.name: one.samples for one in anyio.run(signs.metrics)}
    assert found["emend_ready"][0].value == 0
    assert found["emend_database_up"][0].value == 1
    assert found["emend_disk_free_bytes"] == []
