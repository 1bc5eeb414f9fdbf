"""`python -m app`: what keeps it from starting, and that it starts and stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.errors import DeviceUnavailable, SettingsInvalid
from app.served_encoder import check_device
from app.start import read_settings
from registry import schema
from registry.session import default_url, open_database
from servers.ports import free_port
from tests.support.service import ROOT, environment, picture, run_app, running_service
from tests.support.tiny_encoder import tiny_folder
from tests.support.waiting import wait_for


def _one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if "Emend cannot start" in line]
    assert len(sentences) == 1, done.stderr
    return sentences[0]


def test_a_database_that_was_never_migrated(tmp_path: Path) -> None:
    assert "python -m app migrate" in _one_sentence(run_app(tmp_path))


def test_the_database_goes_back_and_forth(tmp_path: Path) -> None:
    assert run_app(tmp_path, "migrate").returncode == 0
    assert "nowhere" in _one_sentence(run_app(tmp_path, "downgrade", "nowhere"))
    assert run_app(tmp_path, "downgrade", "0003_snapshots").returncode == 0
    assert "0003_snapshots" in _one_sentence(run_app(tmp_path))


def test_a_database_of_a_newer_release(tmp_path: Path) -> None:
    assert run_app(tmp_path, "migrate").returncode == 0
    engine = open_database(default_url(tmp_path))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert "newer release" in _one_sentence(run_app(tmp_path))
    assert "newer release" in _one_sentence(run_app(tmp_path, "migrate"))


@pytest.mark.parametrize("command", ["migrate", "serve"])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"EMEND_PORT": "many"}, "EMEND_PORT"),
        ({"EMEND_EDIT_WAIT": "nan"}, "EMEND_EDIT_WAIT"),
        ({"EMEND_DATABASE_URL": "mysql://x"}, "mysql"),
        ({"EMEND_DATABASE_URL": "no url"}, "database"),
        ({"EMEND_DATABASE_URL": "sqlite:////nowhere/at/all/emend.db"}, "database"),
        ({"EMEND_DATABASE_URL": "sqlite:////tmp/emend.db?timeout=abc"}, "database"),
        ({"EMEND_DATABASE_URL": "postgresql://u:secret@db:54x2/emend"}, "port"),
        ({"EMEND_DATABASE_URL": "postgresql://u:secret@[::1/emend"}, "port"),
        ({"EMEND_DATABASE_URL": "postgresql://127.0.0.1:1/e?ssl_mode=require"}, "ssl_mode"),
    ],
)
def test_a_wrong_setting(
    tmp_path: Path, command: str, settings: dict[str, str], named: str
) -> None:
    said = _one_sentence(run_app(tmp_path, command, **settings))
    assert named in said
    assert "secret" not in said


def test_a_store_that_takes_no_files(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "incoming").write_text("in the way, for root too")
    said = _one_sentence(run_app(tmp_path, EMEND_ARTIFACTS=str(volume)))
    assert str(volume) in said


def test_a_password_that_is_missing_or_weak(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = {
        "EMEND_DATABASE_URL": "postgresql://emend@127.0.0.1:1/emend",
        "EMEND_DATABASE_PASSWORD_FILE": str(file),
    }
    assert str(file) in _one_sentence(run_app(tmp_path, **settings))
    file.write_text("hunter2")
    said = _one_sentence(run_app(tmp_path, "migrate", **settings))
    assert "too weak" in said
    assert "hunter2" not in said


def test_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    broker = f"redis://:s3cret-of-the-queue@127.0.0.1:{free_port()}/0"
    said = _one_sentence(run_app(tmp_path, EMEND_BROKER_URL=broker))
    assert "cannot use the broker" in said
    assert "127.0.0.1" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMEND_EDIT_WAIT", "1e12"),
        ("EMEND_KEEP_PREDICTIONS", "99999999"),
        ("EMEND_KEEP_BYTES", "1" + "0" * 30),
    ],
)
def test_a_number_that_no_clock_or_database_holds(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=f"{name}: .*less than or equal"):
        read_settings()


def test_a_data_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert "data folder" in _one_sentence(run_app(file / "data"))
    assert "data folder" in _one_sentence(run_app(file / "data", "migrate"))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("amqp://nowhere", "amqp://nowhere"),
        ("broker", "broker URL"),
        ("redis://[::1", "broker URL"),
        ("redis://127.0.0.1:1/0?foo=bar", "redis://127.0.0.1:1"),
    ],
)
def test_a_broker_that_is_no_broker(tmp_path: Path, url: str, named: str) -> None:
    assert named in _one_sentence(run_app(tmp_path, EMEND_BROKER_URL=url))


def test_a_folder_of_messages_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("in the way")
    assert str(tmp_path / "broker") in _one_sentence(run_app(tmp_path))


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    schema.upgrade(default_url(tmp_path))
    done = run_app(tmp_path, EMEND_ENCODER="no-such-model")
    assert "no-such-model" in _one_sentence(done)


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(DeviceUnavailable) as refused:
        check_device(device)
    assert device in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_data_of_another_encoder(tmp_path: Path, tiny_encoder: Path) -> None:
    schema.upgrade(default_url(tmp_path))
    other = tiny_folder(tmp_path / "other", seed=1)
    with running_service(tmp_path, tiny_encoder):
        pass
    sentence = _one_sentence(run_app(tmp_path, EMEND_ENCODER=str(other)))
    assert "another data folder" in sentence


def test_it_starts_and_a_signal_stops_it_cleanly(tmp_path: Path, tiny_encoder: Path) -> None:
    schema.upgrade(default_url(tmp_path))
    stderr = _start_and_stop(tmp_path, tiny_encoder)
    assert "Traceback" not in stderr


def _start_and_stop(data: Path, encoder: Path) -> str:
    """Runs the service until it is ready, opens a stream, stops it by SIGTERM; its stderr."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env=environment(data, {"EMEND_ENCODER": str(encoder), "EMEND_PORT": str(port)}),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            wait_for(lambda: _ready(http), seconds=60, what="the service to be ready")
            _open_stream(http)
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGTERM)
    return stderr


def _open_stream(http: httpx.Client) -> None:
    """An answer that never ends by itself, left open."""
    answer = http.post("/corrections", files={"image": picture(1)}, data={"label": "a"})
    job = answer.json()["edit_job"]["id"]
    request = http.build_request("GET", f"/edit-jobs/{job}/events")
    next(http.send(request, stream=True).iter_lines())


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False
