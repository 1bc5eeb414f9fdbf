"""`/adapters` over HTTP."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from app.problems import TYPE_PREFIX
from encoder.adapter import Adapter
from encoder.deltas import Dense
from tests.support.service import (
    RunningService,
    noisy_adapter,
    picture,
    problem_of,
    store_version,
)


def test_a_version_tells_where_it_comes_from(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    detail = service.http.get(f"/adapters/{version}").json()
    base = service.http.get("/adapters/0").json()
    assert (detail["version"], detail["parent"], detail["method"]) == (1, 0, "lorsu")
    assert detail["config"] == {"rank": 4}
    assert detail["report"]["verdict"] == "promoted"
    assert detail["base"] == base["base"]
    assert set(detail["base"]) == {"name", "pretrained", "digest", "bytes"}
    assert detail["base"]["bytes"] > detail["bytes"] > 0
    assert detail["parameters"] > 0
    assert (detail["corrections"], detail["live"], detail["promotions"]) == (0, False, [])
    assert (base["parent"], base["parameters"], base["live"]) == (None, 0, True)


def test_live_is_the_version_that_answers(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    assert service.http.get("/adapters/live").json()["version"] == 0
    service.http.post("/promotions", json={"version": version, "reason": "better"})
    live = service.http.get("/adapters/live").json()
    assert (live["version"], live["live"]) == (version, True)
    assert [one["reason"] for one in live["promotions"]] == ["better"]


def test_the_weights_are_the_very_file(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    answer = service.http.get(f"/adapters/{version}/weights")
    digest = service.http.get(f"/adapters/{version}").json()["digest"]
    assert hashlib.sha256(answer.content).hexdigest() == digest
    assert answer.headers["etag"] == f'"{digest}"'
    shown = base64.b64encode(bytes.fromhex(digest)).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{shown}:"
    assert Adapter.from_bytes(answer.content, digest=digest).parameters > 0
    again = service.http.get(
        f"/adapters/{version}/weights", headers={"if-none-match": f'"{digest}"'}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_the_weights_have_transformers_names_when_asked_for(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    own = Adapter.from_bytes(service.http.get(f"/adapters/{version}/weights").content)
    answer = service.http.get(f"/adapters/{version}/weights", params={"names": "transformers"})
    renamed = Adapter.from_bytes(answer.content)
    shown = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{shown}:"
    assert renamed.provenance == own.provenance
    ((name, delta),) = renamed.deltas.items()
    assert name == "vision_model.encoder.layers.0.mlp.fc1.weight"
    ((_, expected),) = own.deltas.items()
    assert torch.equal(delta.tensors()["values"], expected.tensors()["values"])
    again = service.http.get(
        f"/adapters/{version}/weights",
        params={"names": "transformers"},
        headers={"if-none-match": answer.headers["etag"]},
    )
    assert (again.status_code, again.content) == (304, b"")
    problem = problem_of(service.http.get(f"/adapters/{version}/weights?names=keras"), 422)
    assert "names" in str(problem["errors"])


def test_changes_of_words_have_no_name_in_transformers_vision_model(
    service: RunningService,
) -> None:
    base = service.services.encoder.at(0)[1]
    adapter = noisy_adapter(service.services, seed=1)
    words = Dense(torch.zeros_like(base.model.get_parameter("positional_embedding")))
    foreign = Adapter({"positional_embedding": words}, adapter.provenance)
    version = store_version(service.services.engine, service.services.store, foreign)
    answer = service.http.get(f"/adapters/{version}/weights?names=transformers")
    problem = problem_of(answer, 422)
    assert problem["type"] == TYPE_PREFIX + "names-unmappable"
    assert "positional_embedding" in problem["detail"]


def _uses(service: RunningService, version: int) -> list[httpx.Response]:
    """Every call that serves a version or makes it serve."""
    asked = {"label": ["a", "b"], "adapter": str(version)}
    return [
        service.http.post("/promotions", json={"version": version}),
        service.http.post("/classify", files={"image": picture(1)}, data=asked),
    ]


def _assert_base_answers(service: RunningService, before: dict[str, Any]) -> None:
    assert service.http.get("/adapters/live").json()["version"] == 0
    assert len(service.http.get("/promotions").json()["promotions"]) == 1
    after = service.classify(picture(1), "a", "b")
    assert after["adapter"] == 0
    assert after["predictions"][0]["labels"] == before["predictions"][0]["labels"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[: len(data) // 2],
        lambda _: b"",
    ],
    ids=["last byte", "truncated", "empty"],
)
def test_a_damaged_file_is_never_handed_out_or_served(
    service: RunningService, damage: Callable[[bytes], bytes]
) -> None:
    before = service.classify(picture(1), "a", "b")
    version = service.add_adapter(seed=1)
    (digest,) = service.digests_of(version)
    file = next(Path(service.services.settings.artifacts_location).rglob(digest))
    file.chmod(0o600)
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    weights = service.http.get(f"/adapters/{version}/weights")
    for answer in (weights, *_uses(service, version)):
        problem = problem_of(answer, 500)
        assert problem["type"] == TYPE_PREFIX + "artifact-corrupt"
        (facts,) = problem["errors"]
        assert facts["expected"] == digest
        assert facts["found"] == hashlib.sha256(damaged).hexdigest()
        assert digest in problem["detail"]
    _assert_base_answers(service, before)


def test_an_adapter_of_another_base_is_never_served(service: RunningService) -> None:
    before = service.classify(picture(1), "a", "b")
    foreign = "f" * 64
    version = service.add_adapter(seed=1, base_digest=foreign)
    for answer in _uses(service, version):
        problem = problem_of(answer, 500)
        assert problem["type"] == TYPE_PREFIX + "adapter-unusable"
        (facts,) = problem["errors"]
        assert facts["found"] == foreign
        assert facts["expected"] == service.http.get("/adapters/0").json()["base"]["digest"]
    _assert_base_answers(service, before)


def test_listing_pages_newest_first(service: RunningService) -> None:
    versions = [service.add_adapter(seed=seed) for seed in (1, 2)]
    first = service.http.get("/adapters?limit=2").json()
    assert [one["version"] for one in first["adapters"]] == [versions[1], versions[0]]
    second = service.http.get("/adapters", params={"limit": 2, "cursor": first["next"]}).json()
    assert [one["version"] for one in second["adapters"]] == [0]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("reference", "status"), [("7", 404), ("9" * 40, 404), ("newest", 422), ("-1", 422)]
)
def test_an_unknown_version_is_refused(
    shared_service: RunningService, reference: str, status: int
) -> None:
    problem_of(shared_service.http.get(f"/adapters/{reference}"), status)
    problem_of(shared_service.http.get(f"/adapters/{reference}/weights"), status)
