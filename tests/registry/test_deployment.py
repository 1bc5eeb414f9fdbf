from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from registry.__main__ import CANNOT_RUN, main
from registry.deployment import Deployment, problems_of
from registry.errors import BrokerInvalid, SecretMissing, SecretWeak

SECRET = "a/b@c:d?e#f%g+h i".replace(" ", "_")
"""Every character that means something in a URL."""


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")
    return file


def test_without_settings_all_is_in_the_data_folder(tmp_path: Path) -> None:
    deployment = Deployment(data=tmp_path)
    assert deployment.database_location == f"sqlite:///{tmp_path / 'emend.db'}"
    assert deployment.artifacts_location == str(tmp_path / "artifacts")
    assert deployment.broker_location is None


def test_the_passwords_come_from_their_files_whole(password: Path) -> None:
    deployment = Deployment(
        database_url="postgresql://emend@db:5432/emend",
        database_password_file=password,
        broker_url="redis://queue:6379/0",
        broker_password_file=password,
    )
    database = make_url(deployment.database_location)
    assert (database.username, database.password, database.host) == ("emend", SECRET, "db")
    broker = urlsplit(deployment.broker_location or "")
    assert (broker.hostname, broker.port, broker.path) == ("queue", 6379, "/0")
    from redis.connection import parse_url

    assert parse_url(deployment.broker_location)["password"] == SECRET
    assert SECRET not in repr(deployment)


def test_a_file_goes_before_a_password_in_the_url_and_keeps_the_user(password: Path) -> None:
    deployment = Deployment(broker_url="rediss://worker:old@queue/2", broker_password_file=password)
    broker = urlsplit(deployment.broker_location or "")
    assert broker.username == "worker"
    assert "old" not in (deployment.broker_location or "")


@pytest.mark.parametrize("url", ["redis/0", "broker", "redis://[::1", "redis://queue:port"])
def test_a_broker_that_is_no_url_does_not_get_the_password(url: str, password: Path) -> None:
    deployment = Deployment(broker_url=url, broker_password_file=password)
    with pytest.raises(BrokerInvalid) as refusal:
        _ = deployment.broker_location
    assert SECRET[:3] not in str(refusal.value)


@pytest.mark.parametrize("which", ["database", "broker"])
def test_a_password_without_its_url_is_refused(which: str, password: Path) -> None:
    values = {f"{which}_password_file": password}
    with pytest.raises(ValidationError) as refusal:
        Deployment(**values)  # type: ignore[arg-type]
    ((_, said),) = problems_of(refusal.value)
    assert f"EMEND_{which.upper()}_PASSWORD_FILE" in said
    assert f"EMEND_{which.upper()}_URL" in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@db:54x2/emend",
        "postgresql://u:secret@[::1/emend",
        "postgresql://u:secret@127.0.0.1:1/emend?ssl_mode=require",
        "sqlite:////tmp/emend.db?timeout=abc",
    ],
)
def test_a_command_says_in_a_line_what_is_wrong_with_its_database(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMEND_DATA", str(tmp_path))
    monkeypatch.setenv("EMEND_DATABASE_URL", url)
    assert main(["verify"]) == CANNOT_RUN
    said = capsys.readouterr().err
    assert said.startswith("cannot use the database")
    assert said.count("\n") == 1
    assert "secret" not in said


def test_a_missing_or_weak_password_is_told_when_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    deployment = Deployment(
        database_url="postgresql://emend@db/emend",
        database_password_file=file,
        broker_url="redis://queue",
        broker_password_file=file,
    )
    for location in ("database_location", "broker_location"):
        file.unlink(missing_ok=True)
        with pytest.raises(SecretMissing, match=str(file)):
            getattr(deployment, location)
        file.write_text("emend")
        with pytest.raises(SecretWeak):
            getattr(deployment, location)


@pytest.mark.parametrize(
    ("encoder", "vlm", "source"),
    [
        ("bundled", None, "bundled"),
        ("bundled", "none", None),
        ("/models/clip", None, None),
        ("/models/clip", "bundled", "bundled"),
        ("/models/clip", "/models/llava", "/models/llava"),
    ],
)
def test_the_bundled_encoder_has_a_vlm_unless_decided_otherwise(
    encoder: str, vlm: str | None, source: str | None
) -> None:
    assert Deployment(encoder=encoder, vlm=vlm).vlm_source == source


def test_a_vlm_has_the_encoders_precision_unless_decided_otherwise() -> None:
    assert Deployment(precision="bf16").vlm_decoder_precision == "bf16"
    assert Deployment(precision="bf16", vlm_precision="fp32").vlm_decoder_precision == "fp32"
