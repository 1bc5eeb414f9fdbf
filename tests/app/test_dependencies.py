"""NUL in paths and queries, on SQLite, which takes it, and on PostgreSQL, which does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.postgres import create_database, running_server, why_absent
from tests.support.servers import require_server
from tests.support.service import RunningService, problem_of, running_service


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path
) -> Iterator[RunningService]:
    """One service a database."""
    folder = tmp_path_factory.mktemp("data")
    if request.param == "sqlite":
        with running_service(folder, tiny_encoder) as service:
            yield service
        return
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with running_server() as server:
        url = create_database(server, "nul")
        with running_service(folder, tiny_encoder, database_url=url) as service:
            yield service


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/corrections/%00"),
        ("GET", "/corrections/a%00b/image"),
        ("DELETE", "/corrections/%00"),
        ("GET", "/edit-jobs/%00"),
        ("GET", "/edit-jobs/%00/events"),
        ("GET", "/adapters/%00"),
        ("GET", "/label-sets/%00"),
        ("GET", "/control-sets/%00"),
    ],
)
def test_nothing_has_a_name_with_nul(either: RunningService, method: str, path: str) -> None:
    problem = problem_of(either.http.request(method, path), 404)
    assert problem["type"].endswith(":not-found")


@pytest.mark.parametrize("path", ["/corrections", "/edit-jobs", "/adapters", "/promotions"])
def test_a_query_with_nul_is_refused(either: RunningService, path: str) -> None:
    problem = problem_of(either.http.get(f"{path}?cursor=a%00"), 422)
    assert (problem["type"], problem["errors"][0]["field"]) == (
        "urn:emend:problem:field-invalid",
        "cursor",
    )


def test_json_with_nul_is_refused(either: RunningService) -> None:
    content = {"labels": ["a"], "templates": ["\0{}"]}
    problem = problem_of(either.http.put("/label-sets/x", json=content), 422)
    assert problem["type"].endswith("json-invalid")
    answer = either.http.post("/promotions", json={"version": 0, "reason": "\0"})
    assert problem_of(answer, 422)["type"].endswith("json-invalid")
