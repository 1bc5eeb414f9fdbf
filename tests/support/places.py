"""Where a store of files may be: a local folder or a bucket, looked into without our own code."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from servers.object_store import ObjectStoreServer


@dataclass(frozen=True)
class Place:
    """`url` is what EMEND_ARTIFACTS would be; names are relative to it."""

    url: str
    _files: Callable[[], list[str]]
    _overwrite: Callable[[str, bytes], None]

    def files(self) -> list[str]:
        """The names of all files, in order."""
        return sorted(self._files())

    def overwrite(self, sha256: str, data: bytes) -> None:
        """Damages a stored file behind the store's back."""
        self._overwrite(f"{sha256[:2]}/{sha256}", data)

    def name(self, sha256: str) -> str:
        return f"{sha256[:2]}/{sha256}"


def folder_place(folder: Path) -> Place:
    def overwrite(name: str, data: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    def files() -> list[str]:
        return [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]

    return Place(str(folder), files, overwrite)


@contextmanager
def bucket_place(server: ObjectStoreServer) -> Iterator[Place]:
    """A bucket of its own; this process finds the server meanwhile."""
    bucket = f"emend-{uuid.uuid4().hex}"
    server.make_bucket(bucket)
    root = f"{bucket}/artifacts"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        client = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        yield Place(
            f"s3://{root}",
            lambda: [path.removeprefix(f"{root}/") for path in client.find(root)],
            lambda name, data: client.pipe_file(f"{root}/{name}", data),
        )
