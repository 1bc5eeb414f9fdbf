"""The growth benchmark's history is one that the registry itself could have written, its
operations look at as many rows in a large database as in a small one, and a tiny run goes through.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from benchmark.growth.__main__ import OPERATIONS, fill, main
from benchmark.growth.history import BASE_DIGEST, LEFT_OVER, History
from benchmark.growth.measure import Measured, Timing, plans_of
from benchmark.growth.operations import Operation, Seeded
from benchmark.growth.over_http import measure_requests
from benchmark.growth.plans import Plans, shown
from benchmark.growth.seed import seed_database
from encoder.clip import load_encoder
from registry import schema
from registry.artifacts import ArtifactStore, unnamed_artifacts
from registry.corrections import get_correction, job_corrections
from registry.edit_jobs import get_job, start_job, unapplied
from registry.job_counts import JobCounts
from registry.lineage import follow_live, knows_forgotten, learnt_corrections
from registry.promotions import live_promotion
from registry.session import reading, transaction
from registry.tables import AdapterRecord, Correction, EditJob, LiveLineage, Promotion
from servers.postgres import create_database, running_server, why_absent
from tests.support.servers import require_server

VERSIONS = 240
SMALLER = 60
SEED = 3


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with running_server() as url:
        yield url


@pytest.fixture(scope="module")
def both(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Seeded]]:
    found = []
    for versions in (SMALLER, VERSIONS):
        history = History(versions, SEED)
        folder = tmp_path_factory.mktemp("files")
        store = ArtifactStore(folder)
        url = create_database(server, f"seeded_{versions}")
        engine = seed_database(url, history, store, say=print)
        found.append(Seeded(history, engine, store, folder, random.Random(SEED)))
    yield found
    for each in found:
        each.engine.dispose()


@pytest.fixture
def seeded(both: Sequence[Seeded]) -> Seeded:
    return both[1]


def test_the_rows_are_those_of_the_history(seeded: Seeded) -> None:
    history = seeded.history
    with reading(seeded.engine) as session:
        for table, expected in (
            (Correction, history.corrections),
            (EditJob, history.jobs),
            (AdapterRecord, VERSIONS + 1),
            (Promotion, 1 + len(history.promoted)),
        ):
            assert session.scalar(select(func.count()).select_from(table)) == expected
        superseded = session.scalar(
            select(func.count()).where(Correction.superseded_by.is_not(None))
        )
        forgotten = session.scalar(select(func.count()).where(Correction.forgotten_at.is_not(None)))
        assert (superseded, forgotten) == (history.settled // 200, history.settled // 100)
        counts = JobCounts().read(session)
        assert counts.keys() == {"queued", "succeeded", "rejected", "failed", "cancelled"}
        assert unnamed_artifacts(session)[0] == []


def test_the_registry_finds_the_history_in_order(seeded: Seeded) -> None:
    history = seeded.history
    stays = [version.number for version in history.life if version.stays]
    with transaction(seeded.engine) as session:
        live = live_promotion(session).version
        assert live == VERSIONS == stays[-1]
        assert sorted(session.scalars(select(LiveLineage.version))) == stays
        left = history.gathered(history.cycle_jobs + 1)
        assert unapplied(session, live) == [history.correction_id(one) for one in left]
        learnt = {one.id for one in learnt_corrections(session, live)}
        standing = [n for n in range(history.settled) if history.stands(n)]
        assert learnt == {history.correction_id(number) for number in standing}
        assert knows_forgotten(session, live)
        last = get_job(session, history.job_id(history.cycle_jobs))
        assert (last.adapter, last.size) == (VERSIONS, len(history.joined(last.number)))
        assert len(job_corrections(session, last.id)) < last.size, "some were forgotten"
        row = get_correction(session, history.correction_id(standing[0]))
        assert (row.state, row.label) == ("applied", history.label(standing[0]))


def test_no_job_is_told_emptied_that_the_registry_would_still_look_at(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.edit_jobs.JOBS_AT_ONCE", 10_000)
    with transaction(seeded.engine) as session:
        follow_live(session, VERSIONS)
        before = set(session.scalars(select(EditJob.number).where(EditJob.emptied)))
        session.execute(text("UPDATE edit_jobs SET emptied = false, open = false"))
        now = seeded.history.now
        job = start_job(
            session, method="lorsu", config={}, seed=0, base_digest=BASE_DIGEST, now=now
        )
        assert job.size == LEFT_OVER
        after = set(session.scalars(select(EditJob.number).where(EditJob.emptied)))
        assert after - before == {seeded.history.cycle_jobs + 1}, "the one it has just emptied"
        assert before <= after
        session.rollback()


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.flat], ids=lambda one: one.name
)
def test_an_operation_looks_at_no_more_rows_of_four_times_as_many(
    both: Sequence[Seeded], operation: Operation
) -> None:
    for seeded in both:
        plans_of(operation, seeded)  # the first look of a process may be at everything
    small, large = (plans_of(operation, seeded).rows for seeded in both)
    assert large <= 1.3 * small + 50


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claim a job", "ix_edit_jobs_status_number, ix_edit_jobs_not_emptied"),
        ("submit 20 known images", "uq_corrections_live_question, ix_corrections_image_sha256"),
        ("start a job on what came to nothing", "ix_corrections_edit_job_id"),
    ],
)
def test_without_its_index_an_operation_looks_at_many(
    seeded: Seeded, name: str, index: str
) -> None:
    [operation] = [one for one in OPERATIONS if one.name == name]
    rows = [plans_of(operation, seeded).rows for _ in range(2)][-1]

    def without_it(session: Session, place: Seeded) -> Any:
        session.execute(text(f"DROP INDEX {index}"))
        return operation.prepare(session, place) if operation.prepare else None

    slow = replace(operation, prepare=without_it)
    assert plans_of(slow, seeded).rows > 2 * rows


def test_a_tiny_run_reports_every_operation(server: str, tmp_path: Path) -> None:
    urls = [create_database(server, name) for name in ("small", "large")]
    arguments = [
        "--corrections",
        "500",
        "1000",
        "--rounds",
        "2",
        "--no-http",
        "--out",
        str(tmp_path),
    ]
    ended = main(["--database-url", *urls, *arguments])
    facts = json.loads((tmp_path / "growth.json").read_text())
    assert ended == (1 if facts["grown"] else 0)
    assert [one["operation"] for one in facts["operations"]] == [one.name for one in OPERATIONS]
    assert facts["large"]["corrections"] == 1_260
    assert facts["large"]["seconds_to_migrate"].keys() >= {"0004_growth"}
    plans = (tmp_path / "growth-plans.txt").read_text()
    assert "Index Scan using pk_corrections on corrections" in plans
    assert all(f"== {one.name}: " in plans for one in OPERATIONS)


def test_requests_are_measured_on_both_databases(server: str, tmp_path: Path) -> None:
    base = load_encoder("bundled").base_digest
    places = []
    for versions in (5, 10):
        url = create_database(server, f"asked_{versions}")
        seeded, _ = fill(url, History(versions, SEED, base), tmp_path / str(versions))
        places.append((url, seeded))
    asked = measure_requests(places, rounds=1)
    for _, seeded in places:
        seeded.engine.dispose()
    assert {one.name for one in asked} >= {"GET /corrections", "GET /edit-jobs", "GET /adapters"}
    # What seems to have grown, by chance in one round, is measured anew and more often.
    assert all(one.small.count == one.large.count >= 1 for one in asked)


def test_a_database_that_is_not_empty_is_left_alone(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = create_database(server, "taken")
    schema.upgrade(taken)
    urls = [taken, create_database(server, "other")]
    assert main(["--database-url", *urls, "--out", str(tmp_path)]) == 1
    assert "name an empty one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_statement_is_shown_as_a_person_reads_it() -> None:
    columns = ", ".join(f"corrections.column_{number}" for number in range(9))
    statement = (
        f"SELECT {columns} \nFROM corrections \nWHERE corrections.id IN (%(id_1_1)s::VARCHAR,"
        " %(id_1_2)s::VARCHAR) AND corrections.created_at < %(at)s::TIMESTAMP WITH TIME ZONE"
    )
    said = "SELECT … FROM corrections WHERE corrections.id IN (?, …) AND corrections.created_at < ?"
    assert shown(statement) == said


@pytest.mark.parametrize(
    ("small", "large", "grew"),
    [(1.0, 1.4, False), (0.1, 0.35, False), (1.0, 1.6, True), (0.2, 0.6, True)],
)
def test_growth_is_a_ratio_and_more_than_noise(small: float, large: float, grew: bool) -> None:
    plans = Plans()
    found = Measured(OPERATIONS[0], Timing(small, small, 1), Timing(large, large, 1), plans, plans)
    assert found.grew is grew
