"""What is wrong at the start is said in one sentence."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from encoder.adapter import Adapter, empty_adapter
from registry.methods import list_methods
from registry.session import default_url, open_database, reading
from servers.ports import free_port
from tests.support.running_worker import Desk, Here, open_shop
from tests.support.tiny_encoder import tiny_folder
from worker.celery_app import make_app
from worker.errors import NotReady, WorkerStopping
from worker.everyday import read_everyday
from worker.settings import Settings
from worker.startup import announce, open_workshop, read_settings, wait_for_schema


def test_publishes_its_methods_and_the_base(here: Here) -> None:
    assert here.desk.versions() == here.desk.promoted() == [0]
    with reading(here.desk.engine) as session:
        schemas = {row.name: row.config_schema for row in list_methods(session)}
    assert schemas.keys() == {"full_finetune", "layernorm", "lora", "lorsu", "spu"}
    assert schemas["lorsu"]["properties"]["rank"]["minimum"] == 1
    assert schemas["spu"]["properties"]["fc1_fraction"]["default"] == 0.1
    assert "rank" not in schemas["layernorm"]["properties"]


def test_starting_again_changes_nothing(here: Here) -> None:
    announce(here.desk.engine, here.desk.store, here.workshop.base)
    assert here.desk.promoted() == [0]
    base = here.workshop.base
    data = here.desk.store.get(here.desk.adapter(0).digest)
    assert data == empty_adapter(base.name, base.pretrained, base.base_digest)
    assert Adapter.from_bytes(data).deltas == {}


def test_refuses_the_data_of_another_base_encoder(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_shop(desk, monkeypatch):
        pass
    monkeypatch.setenv("EMEND_ENCODER", str(tiny_folder(desk.folder / "other", seed=9)))
    with pytest.raises(NotReady, match="belongs to the base encoder"):
        open_workshop(Settings(), threading.Event())


def test_names_every_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMEND_LEASE", "soon")
    monkeypatch.setenv("EMEND_FLIP_BUDGET", "nan")
    with pytest.raises(NotReady, match=r"EMEND_FLIP_BUDGET: .*EMEND_LEASE: "):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("EMEND_KEEP_PREDICTIONS", "99999999"), ("EMEND_KEEP_BYTES", "1" + "0" * 30)],
)
def test_a_number_that_no_clock_or_database_holds_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(NotReady, match=f"{name}: .*less than or equal"):
        read_settings()


def test_a_broker_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="redis://"):
        make_app(Settings(data=tmp_path, broker_url="amqp://guest:secret@here"))


def test_a_broker_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, broker_url=f"redis://:hidden@127.0.0.1:{free_port()}/0")
    with pytest.raises(NotReady, match=r"broker redis://127\.0\.0\.1") as refusal:
        open_workshop(settings, threading.Event())
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"database_url": "postgresql://u:secret@db:54x2/emend"}, "port"),
        ({"database_url": "postgresql://u:secret@[::1/emend"}, "port"),
        ({"database_url": "sqlite:////tmp/emend.db?timeout=abc"}, "database"),
        ({"database_url": "postgresql://127.0.0.1:1/e?ssl_mode=require"}, "ssl_mode"),
        ({"broker_url": "redis://[::1"}, "broker URL"),
        ({"broker_url": "broker"}, "broker URL"),
        ({"broker_url": "redis://127.0.0.1:1/0?foo=bar"}, r"broker redis://127\.0\.0\.1:1"),
    ],
)
def test_an_address_that_is_written_wrongly_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("worker.startup.SCHEMA_WAIT_SECONDS", 0.0)
    with pytest.raises(NotReady, match=said) as refusal:
        open_workshop(Settings.model_validate({"data": tmp_path, **wrong}), threading.Event())
    assert "secret" not in str(refusal.value)


def test_a_folder_of_messages_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("in the way")
    with pytest.raises(NotReady, match=str(tmp_path / "broker")):
        make_app(Settings(data=tmp_path))


def test_a_store_that_takes_no_files_is_named(desk: Desk, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "incoming").write_text("in the way, for root too")
    settings = Settings(
        data=desk.folder,
        database_url=desk.settings["EMEND_DATABASE_URL"],
        artifacts=str(volume),
    )
    with pytest.raises(NotReady, match=str(volume)):
        open_workshop(settings, threading.Event())


def test_a_weak_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    settings = Settings(
        data=tmp_path,
        database_url="postgresql://emend@127.0.0.1:1/emend",
        database_password_file=tmp_path / "password",
    )
    with pytest.raises(NotReady, match="too weak"):
        open_workshop(settings, threading.Event())


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady, match=r"data folder .*file cannot be written to"):
        open_workshop(Settings(data=tmp_path / "file"), threading.Event())


def test_a_data_folder_that_takes_no_files_is_refused() -> None:
    """Not even root's: the kernel's own folder. Later the health mark would only be missing."""
    settings = Settings(
        data=Path("/proc/self"), database_url="postgresql://emend@127.0.0.1:1/emend"
    )
    with pytest.raises(NotReady, match="data folder /proc/self cannot be written to"):
        open_workshop(settings, threading.Event())


def test_an_empty_database_is_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.startup.SCHEMA_WAIT_SECONDS", 0.1)
    with pytest.raises(NotReady, match="migrate"):
        open_workshop(Settings(data=tmp_path), threading.Event())


def test_the_wait_for_the_schema_ends_with_a_stop(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    engine = open_database(default_url(tmp_path))
    with pytest.raises(WorkerStopping):
        wait_for_schema(engine, stopping, seconds=60)
    engine.dispose()


def test_everyday_things_come_with_the_bundled_encoder() -> None:
    everyday = read_everyday()
    assert len(set(everyday.labels)) == len(everyday.labels) >= 50
    assert all("{}" in template for template in everyday.templates)
