"""The product with its files in a bucket: real processes, a real S3-compatible server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from client import local_service
from demo.photos import digits
from registry.__main__ import main
from servers.object_store import ObjectStoreServer, running_object_store
from servers.ports import free_port
from tests.support.places import bucket_place
from tests.support.service import ROOT, environment, picture, problem_of, run_app
from tests.support.waiting import wait_for

LONGEST_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    with running_object_store(tmp_path_factory.mktemp("object-store")) as running:
        yield running


def test_a_correction_becomes_live_through_a_bucket(
    server: ObjectStoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = digits(seed=2).corrections
    images, labels = material.images[:4], material.labels[:4]
    settings = {"EMEND_EDIT_BATCH": "4"}
    with (
        bucket_place(server) as place,
        local_service(tmp_path, settings | {"EMEND_ARTIFACTS": place.url}) as service,
    ):
        service.put_label_set("digits", list(dict.fromkeys(material.labels)))
        (job,) = service.correct(images, labels, label_set="digits")
        assert service.wait_job(job)["adapter"] == service.adapter("live")["version"] == 1
        assert service.answers(images, label_set="digits") == labels
        assert len(place.files()) >= 6  # four images, versions 0 and 1
        assert not list((tmp_path / "artifacts").rglob("*"))
        weights = service.request("GET", "/adapters/1/weights").content
        assert place.name(service.adapter(1)["digest"]) in place.files()
        assert len(weights) == service.adapter(1)["bytes"]
        _refused_in_time_and_then_accepted(server, str(service.request("GET", "/").url))
        monkeypatch.setenv("EMEND_DATA", str(tmp_path))
        monkeypatch.setenv("EMEND_ARTIFACTS", place.url)
        assert main(["verify"]) == 0


def _refused_in_time_and_then_accepted(server: ObjectStoreServer, url: str) -> None:
    """While the bucket does not answer: questions are answered, corrections may come back later."""
    image = {"image": picture(1)}

    def correct() -> httpx.Response:
        return http.post("/corrections", files=image, data={"label": "cat"})

    with httpx.Client(base_url=url, timeout=30) as http:
        server.freeze()
        try:
            began = time.monotonic()
            refused = correct()
            assert time.monotonic() - began < LONGEST_S
            problem = problem_of(refused, 503)
            assert problem["type"] == "urn:emend:problem:storage-unavailable"
            assert int(refused.headers["Retry-After"]) >= 1
            asked = http.post("/classify", files=image, data={"label": ["cat", "dog"]})
            assert asked.status_code == 200
        finally:
            server.thaw()
        wait_for(lambda: correct().status_code == 202, seconds=30, what="the correction's 202")


@pytest.mark.parametrize("bucket", ["half-a-key", "missing", "unreachable"])
def test_a_bucket_that_cannot_be_used_keeps_both_processes_from_starting(
    server: ObjectStoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    assert run_app(tmp_path, "migrate").returncode == 0
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    if bucket == "unreachable":
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    if bucket == "half-a-key":
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    url = f"s3://{bucket}/files"
    for room in ("app", "worker"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", room],
            cwd=ROOT,
            env=environment(tmp_path, {"EMEND_ARTIFACTS": url}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert f"cannot use the store {url}: " in done.stderr
