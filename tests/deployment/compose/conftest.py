"""One stack for all tests of this folder: built, brought up, and removed with its volumes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from client import EmendClient
from tests.support.stack import Stack

SETTINGS = {
    "EMEND_API_IMAGE": "emend-api:test",
    "EMEND_WORKER_IMAGE": "emend-worker:test",
    "EMEND_THREADS": "1",
    "EMEND_EDIT_BATCH": "1000",
    "EMEND_EDIT_WAIT": "1",
}


@pytest.fixture(scope="session")
def engine() -> None:
    """Fails, and does not skip: who asks for these tests wants them to run."""
    try:
        subprocess.run(["docker", "version"], check=True, capture_output=True, timeout=20)
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as problem:
        pytest.fail(f"a Docker engine with Compose is needed: {problem}")


@pytest.fixture(scope="session")
def stack(engine: None) -> Iterator[Stack]:  # noqa: ARG001
    """Built and not yet up."""
    one = Stack(f"emend-test-{os.getpid()}", SETTINGS)
    one.run("build", "--quiet")
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def service(stack: Stack) -> Iterator[EmendClient]:
    """Everything healthy, one API and one worker, whatever the test before left."""
    stack.up("--scale", "api=1", "--scale", "worker=1")
    with EmendClient(stack.url, timeout=60) as client:
        yield client
