"""What goes wrong with an S3-compatible store is named, quickly, without what is secret."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.artifacts import ArtifactStore
from registry.errors import ArtifactMissing, StorageUnavailable
from registry.remote_folder import ANSWER_S, OPEN_S
from servers.object_store import ObjectStoreServer
from servers.ports import free_port
from tests.support.places import bucket_place
from tests.support.waiting import wait_for

BUSY_S = 5.0  # what a loaded machine may add; a client left to itself waits for minutes
OPENED_S = OPEN_S + ANSWER_S + BUSY_S
ANSWERED_S = ANSWER_S + BUSY_S
AT_ONCE_S = ANSWER_S / 2


@pytest.fixture
def bucket(object_store: ObjectStoreServer) -> Iterator[str]:
    """The URL of an empty one."""
    with bucket_place(object_store) as place:
        yield place.url


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Some keys, no server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def refusal(url: str) -> str:
    """Why a store cannot be opened; told in time, in one line."""
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught:
        ArtifactStore(url)
    assert time.monotonic() - began < OPENED_S
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_bucket_that_is_not_there_is_named_and_not_made(bucket: str) -> None:
    missing = f"s3://missing-{bucket[len('s3://') :]}"
    for _ in range(2):
        said = refusal(missing)
        assert missing in said
        assert "there is no bucket 'missing-emend-" in said


def test_a_bucket_that_went_is_no_missing_file(
    object_store: ObjectStoreServer, bucket: str
) -> None:
    """Who would believe it would take every row for damaged."""
    store = ArtifactStore(bucket)
    sha256 = store.put(b"some bytes")
    store.delete(sha256)
    object_store.remove_bucket(bucket.removeprefix("s3://").split("/")[0])
    for act in (store.get, store.exists, store.files):
        with pytest.raises(StorageUnavailable, match="there is no bucket"):
            act(sha256)
    with pytest.raises(StorageUnavailable):
        store.put(b"some bytes")


def test_a_folder_that_went_is_no_missing_file(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "volume")
    sha256 = store.put(b"some bytes")
    (tmp_path / "volume").rename(tmp_path / "unmounted")
    for act in (store.get, store.exists, store.delete, store.files):
        with pytest.raises(StorageUnavailable, match="there is no such folder"):
            act(sha256)
    (tmp_path / "volume").mkdir()
    with pytest.raises(ArtifactMissing):
        store.get(sha256)


def test_wrong_keys_are_refused(object_store: ObjectStoreServer, bucket: str) -> None:
    store = ArtifactStore(bucket)
    object_store.accept_keys(unknown=False)
    try:
        assert "access is denied" in refusal(bucket)
        with pytest.raises(StorageUnavailable, match="access is denied"):
            store.get("a" * 64)
        with pytest.raises(StorageUnavailable, match="access is denied"):
            store.put(b"some bytes")
    finally:
        object_store.accept_keys(unknown=True)


def test_keys_are_read_from_a_file(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert "Unable to locate credentials" in refusal(bucket)
    file.write_text("[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n")
    store = ArtifactStore(bucket)
    assert store.get(store.put(b"some bytes")) == b"some bytes"


def test_half_a_key_is_named(keys: pytest.MonkeyPatch) -> None:
    keys.delenv("AWS_SECRET_ACCESS_KEY")
    assert "missing: AWS_SECRET_ACCESS_KEY" in refusal("s3://bucket/here")


def test_nobody_listens(keys: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    keys.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    said = refusal("s3://bucket/here")
    assert said.startswith("cannot use the store s3://bucket/here: ")
    assert endpoint in said


def test_an_endpoint_that_is_no_url(keys: pytest.MonkeyPatch) -> None:
    keys.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    assert "Invalid endpoint: nonsense" in refusal("s3://bucket/here")


@pytest.mark.parametrize("url", ["s3://", "s3://no bucket/here"])
def test_a_url_without_a_bucket(keys: pytest.MonkeyPatch, url: str) -> None:
    keys.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    assert "bucket" in refusal(url)


def test_something_else_listens(keys: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_talk_nonsense, args=[listener])
        thread.start()
        keys.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            refusal("s3://bucket/here")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10)


def _talk_nonsense(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(10_000)
            connection.sendall(b"220 mail.example ESMTP\r\n")


@pytest.mark.parametrize("listing", [False, True])
def test_a_server_that_does_not_answer_is_given_up_in_time(
    object_store: ObjectStoreServer, bucket: str, *, listing: bool
) -> None:
    """Whoever comes next does not wait as well; all is well again once it answers."""
    store = ArtifactStore(bucket)
    sha256 = store.put(b"some bytes")
    object_store.freeze()
    try:
        for seconds in (ANSWERED_S, AT_ONCE_S):
            began = time.monotonic()
            with pytest.raises(StorageUnavailable, match="answer"):
                store.files(sha256[:2]) if listing else store.get(sha256)
            assert time.monotonic() - began < seconds
        assert "does not answer in time" in refusal(bucket)
    finally:
        object_store.thaw()

    def answers() -> bool:
        try:
            return store.get(sha256) == b"some bytes"
        except StorageUnavailable:
            return False

    wait_for(answers, seconds=20, what="the store to be used again")


def test_a_large_file_is_not_sent_to_a_server_that_does_not_answer(
    object_store: ObjectStoreServer, bucket: str
) -> None:
    store = ArtifactStore(bucket)
    object_store.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="answer"):
            store.put(bytes(20_000_000))
        assert time.monotonic() - began < ANSWERED_S
    finally:
        object_store.thaw()


@pytest.mark.parametrize(
    "url", ["s3://me:geheim@bucket/here", "ftp://me:geheim@127.0.0.1:1/here?token=geheim"]
)
def test_a_password_in_a_url_is_shown_to_nobody(keys: pytest.MonkeyPatch, url: str) -> None:
    keys.setenv("AWS_ENDPOINT_URL_S3", "http://me:geheim@127.0.0.1:1/?token=geheim")
    said = refusal(url)
    assert "here" in said
    assert "geheim" not in said
