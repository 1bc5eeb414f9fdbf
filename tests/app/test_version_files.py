"""What is served from a snapshot is what is served from the whole chain."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from encoder.adapter import Adapter
from encoder.clip import Encoder
from registry.artifacts import keep_artifact
from registry.errors import ArtifactMissing
from registry.session import transaction
from registry.snapshots import record_snapshot
from registry.tables import SnapshotRecord
from tests.support.service import RunningService, picture, running_service
from tests.support.stacked_adapters import record_stack
from tests.support.tiny_encoder import state_bytes

COUNT, BENEATH = 5, 3


def base_of(service: RunningService) -> Encoder:
    return service.services.encoder.at(0)[1]


def stack(service: RunningService) -> list[Adapter]:
    """The last of them is served, so that nothing reads its files later."""
    services = service.services
    adapters = record_stack(services.engine, services.store, base_of(service), COUNT)
    services.encoder.refresh()
    return adapters


def compact(service: RunningService, adapters: list[Adapter], version: int = BENEATH) -> str:
    """A snapshot as a worker makes it; its file."""
    base, store = base_of(service), service.services.store
    data = base.snapshot_of(base.merged(adapters[:version])).to_bytes()
    digest, now = store.put(data), datetime.now(UTC)
    with transaction(service.services.engine) as session:
        record_snapshot(session, store, version, digest=digest, size=len(data), now=now)
    return digest


def answer(service: RunningService, version: int) -> dict[str, Any]:
    found = service.classify(picture(1), "a", "b", "c", adapter=str(version))
    return {
        "digest": found["encoder_digest"],
        "labels": found["predictions"][0]["labels"],
    }


def files_read(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every file that is read from now on."""
    read: list[str] = []
    get = service.services.store.get

    def watched(digest: str) -> bytes:
        read.append(digest)
        return get(digest)

    monkeypatch.setattr(service.services.store, "get", watched)
    return read


def test_a_replica_with_the_snapshot_answers_as_one_without(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    with running_service(folder, tiny_encoder) as service:
        adapters = stack(service)
        before = [answer(service, version) for version in range(COUNT + 1)]
        assert len({one["digest"] for one in before}) == COUNT + 1
        digest = compact(service, adapters)
    with running_service(folder, tiny_encoder) as service:
        read = files_read(service, monkeypatch)
        assert [answer(service, version) for version in range(COUNT + 1)] == before
        assert digest in read
        by_chain = base_of(service).merged(adapters)
        _, live = service.services.encoder.live()
        assert state_bytes(live.model) == state_bytes(by_chain.model)


def test_only_the_files_above_the_snapshot_are_read(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = stack(service)
    digest = compact(service, adapters)
    read = files_read(service, monkeypatch)
    answer(service, BENEATH + 1)
    assert read == [digest, adapters[BENEATH].digest]


@pytest.mark.parametrize("damage", ["flipped", "gone", "foreign"])
def test_without_a_usable_snapshot_the_chain_is_merged(
    service: RunningService, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    adapters = stack(service)
    digest = compact(service, adapters)
    [path] = Path(service.services.store.url).rglob(digest)
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        _name_another_file(service, adapters[0].to_bytes())
    expected = base_of(service).merged(adapters[:4])
    assert answer(service, 4)["digest"] == expected.digest
    assert f"version {BENEATH} is merged without its snapshot" in caplog.text


def test_the_next_snapshot_beneath_stands_in_for_a_lost_one(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = stack(service)
    lower, upper = (compact(service, adapters, version) for version in (1, BENEATH))
    service.services.store.delete(upper)
    read = files_read(service, monkeypatch)
    assert answer(service, BENEATH)["digest"] == base_of(service).merged(adapters[:BENEATH]).digest
    assert read == [upper, lower, *(adapter.digest for adapter in adapters[1:BENEATH])]


def _name_another_file(service: RunningService, data: bytes) -> None:
    """The row of the snapshot names a whole file that is none."""
    store, now = service.services.store, datetime.now(UTC)
    with transaction(service.services.engine) as session:
        digest = store.put(data)
        keep_artifact(session, store, digest, size=len(data), media_type="x/y", now=now)
        row = session.get(SnapshotRecord, BENEATH)
        assert row is not None
        row.digest = digest


def test_a_missing_adapter_above_a_snapshot_is_still_an_error(service: RunningService) -> None:
    adapters = stack(service)
    compact(service, adapters)
    service.services.store.delete(adapters[BENEATH].digest)
    with pytest.raises(ArtifactMissing):
        service.services.encoder.at(BENEATH + 1)
    assert answer(service, BENEATH)["digest"] == base_of(service).merged(adapters[:BENEATH]).digest
