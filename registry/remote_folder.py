"""Files behind an fsspec URL, S3-compatible stores above all, which write objects whole.

Where S3 is and who may use it is told the way its own tools are told: `AWS_ENDPOINT_URL_S3`,
`AWS_SHARED_CREDENTIALS_FILE` and the others of their kind. s3fs would remember listings, wait and
try again for minutes, and make a bucket that is missing: here it does none of that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.core import split_protocol

from registry.found_file import FoundFile

ANSWER_S = 4.0
"""Until a request without much data must be answered."""
SLOWEST = 1_000_000
"""Bytes a second that a transfer gets at least; only then is the store given up."""
OPEN_S = 20.0
"""Reading the service's description takes a second or two on a busy machine; no network."""
CONNECT_S = 2.0
STALLED_S = 3.0
CONNECTIONS = 64
_S3 = {"s3", "s3a"}


class RemoteFolder:
    """Names are relative, with slashes. Every method raises one of `failures_of` its URL.

    Safe to share between threads; a forked process opens it anew.
    """

    def __init__(self, url: str, *, writable: bool) -> None:
        """Also raises ImportError when the package for this kind of URL is not installed."""
        self._url = url
        self._s3 = _is_s3(url)
        if self._s3 and "@" in url:
            raise ValueError("keys belong into the environment or a file, not into the URL")
        self._process = os.getpid()
        self._system, self._root = self._open()
        if writable and not self._s3:
            self._system.makedirs(self._root, exist_ok=True)
        self.prove()

    def prove(self) -> None:
        """Raises FileNotFoundError when the bucket, or the folder itself, is gone."""
        if not self._s3:
            return
        bucket = self._root.split("/")[0]
        try:
            self._files.info(bucket, **self._within(ANSWER_S))
        except FileNotFoundError as problem:
            raise FileNotFoundError(f"there is no bucket {bucket!r}") from problem

    def size(self, name: str) -> int | None:
        """None when there is no such file."""
        try:
            return int(self._files.info(self._path(name), **self._within(ANSWER_S))["size"])
        except FileNotFoundError:
            self.prove()
            return None

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        path = self._path(name)
        size = int(self._files.info(path, **self._within(ANSWER_S))["size"])
        one_stream = {"max_concurrency": 1} if self._s3 else {}
        data: bytes = self._files.cat_file(path, **one_stream, **self._within(_transfer(size)))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Durable when it returns. Never skipped: it mends a damaged object, and it is new again
        for who collects old ones that nothing names."""
        if len(data) > SLOWEST:  # sending it to nobody would take longer than asking
            self.prove()
        self._files.pipe_file(self._path(name), data, **self._within(_transfer(len(data))))

    def remove(self, name: str) -> None:
        """Raises FileNotFoundError, where the store tells."""
        self._files.rm_file(self._path(name), **self._within(ANSWER_S))

    def folders(self) -> list[str]:
        """The folders beneath, in order."""
        return sorted(_last(one["name"]) for one in self._list("") if one["type"] == "directory")

    def files(self, folder: str) -> Iterator[FoundFile]:
        """The files right in a folder; none when there is no such folder."""
        for one in self._list(folder):
            if one["type"] == "file":
                name = f"{folder}/{_last(one['name'])}"
                yield FoundFile(name, int(one["size"]), _modified(one))

    def _list(self, folder: str) -> list[dict[str, Any]]:
        """All pages of a thousand within the time of one answer: a worker's sweep waits for them,
        and a folder has few of them even where there are millions of files."""
        try:
            entries: list[dict[str, Any]] = self._files.ls(
                self._path(folder), detail=True, **self._within(ANSWER_S)
            )
        except FileNotFoundError:
            self.prove()
            return []
        return entries

    @property
    def _files(self) -> Any:
        if self._process != os.getpid():
            self._system, self._root = self._open()
            self._process = os.getpid()
        return self._system

    def _open(self) -> tuple[Any, str]:
        if not self._s3:
            system, root = fsspec.url_to_fs(self._url)
            return system, root
        system, root = fsspec.url_to_fs(self._url, **_s3_options())
        if not root:
            raise ValueError("the URL names no bucket")
        system.retries = 1  # beside those of the client beneath
        system.connect(timeout=OPEN_S)
        return system, root

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else str(self._root)

    def _within(self, seconds: float) -> dict[str, float]:
        return {"timeout": seconds} if isinstance(self._system, AsyncFileSystem) else {}


def _is_s3(url: str) -> bool:
    return split_protocol(url)[0] in _S3


def _s3_options() -> dict[str, Any]:
    return {
        "skip_instance_cache": True,
        "use_listings_cache": False,  # other processes write and delete
        "config_kwargs": {
            "connect_timeout": CONNECT_S,
            "read_timeout": STALLED_S,
            "retries": {"total_max_attempts": 2},  # a kept connection may have been closed
            "max_pool_connections": CONNECTIONS,
        },
    }


def failures_of(url: str) -> tuple[type[Exception], ...]:
    """What using a store at this URL may raise. Raises ImportError as opening it does.

    What s3fs lets through that is no OSError comes from the two libraries beneath it; an endpoint
    that is no URL is a ValueError.
    """
    if not _is_s3(url):
        return (OSError, ValueError)
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return (OSError, BotoCoreError, ClientError, ValueError)


def _transfer(size: int) -> float:
    return ANSWER_S + size / SLOWEST


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _modified(entry: dict[str, Any]) -> datetime | None:
    for key in ("LastModified", "mtime", "created"):
        if isinstance(entry.get(key), datetime):
            found: datetime = entry[key]
            return found if found.tzinfo else None
    return None
