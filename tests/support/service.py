"""The HTTP service for real: uvicorn on a free loopback port, a tiny encoder, a SQLite folder."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn
from PIL import Image
from sqlalchemy import Engine

from app.errors import NotReady
from app.main import create_app
from app.services import Services
from app.settings import Settings
from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder
from encoder.deltas import Dense
from registry import schema
from registry.adapters import NewAdapter, record_adapter
from registry.artifacts import ArtifactStore
from registry.identity import new_id
from registry.session import close_database, reading, transaction
from registry.snapshots import chain
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 180


@dataclass(frozen=True)
class RunningService:
    """``http`` talks to it over the network, ``services`` is what the process holds."""

    url: str
    http: httpx.Client
    services: Services

    def add_adapter(
        self,
        *,
        seed: int,
        parent: int = 0,
        verdict: str = "promoted",
        base_digest: str | None = None,
    ) -> int:
        """A new version on the base that really changes the answers; stored, not promoted.

        `base_digest` makes its file one of another base encoder.
        """
        adapter = noisy_adapter(self.services, seed=seed, base_digest=base_digest)
        services = self.services
        return store_version(
            services.engine, services.store, adapter, parent=parent, verdict=verdict
        )

    def digests_of(self, version: int) -> list[str]:
        """Digests of the adapters merged for a version."""
        with reading(self.services.engine) as session:
            return [file.digest for file in chain(session, version).adapters]

    def classify(self, image: bytes, *labels: str, **fields: Any) -> dict[str, Any]:
        """The answer for one image."""
        answer = self.http.post(
            "/classify", files={"image": image}, data={"label": list(labels), **fields}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ask(self, image: bytes, question: str, *options: str, **fields: Any) -> dict[str, Any]:
        """The answer to a question about one image."""
        data = {"question": question, "option": list(options), **fields}
        answer = self.http.post("/vqa", files={"image": image}, data=data)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_for_vlm(self) -> None:
        """Returns once questions are answered."""
        wait_for(lambda: self.services.vlm.state == "loaded", seconds=READY_SECONDS, what="the VLM")

    def correct(self, image: bytes, label: str, **fields: Any) -> dict[str, Any]:
        """What became of one correction."""
        answer = self.http.post(
            "/corrections", files={"image": image}, data={"label": label} | fields
        )
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found


def store_version(
    engine: Engine,
    store: ArtifactStore,
    adapter: Adapter,
    *,
    parent: int = 0,
    verdict: str = "promoted",
) -> int:
    """A new version, stored and not promoted."""
    data, origin = adapter.to_bytes(), adapter.provenance
    new = NewAdapter(
        parent=parent,
        stacked_on=None,
        method=origin.method,
        config=origin.config,
        seed=origin.seed,
        base_name=origin.base_name,
        base_pretrained=None,
        base_digest=origin.base_digest,
        digest=store.put(data),
        bytes=len(data),
        parameters=adapter.parameters,
        strength=1.0,
        edit_job_id=new_id(),
        report={"verdict": verdict, "reason": "made by a test"},
    )
    with transaction(engine) as session:
        return record_adapter(session, store, new, now=datetime.now(UTC))


def noisy_adapter(services: Services, *, seed: int, base_digest: str | None = None) -> Adapter:
    """`noisy_deltas` of the base encoder that is served."""
    return noisy_deltas(services.encoder.at(0)[1], seed=seed, base_digest=base_digest)


def noisy_deltas(base: Encoder, *, seed: int, base_digest: str | None = None) -> Adapter:
    """An adapter that moves every fc1 weight of the first block by chance; of this base encoder,
    unless `base_digest` names another."""
    generator = torch.Generator().manual_seed(seed)
    weights = dict(base.model.named_parameters())
    deltas = {
        name: Dense(torch.randn(weights[name].shape, generator=generator))
        for name in base.tower.blocks[0].fc1
    }
    provenance = Provenance(
        method="lorsu",
        config={"rank": 4},
        seed=seed,
        parent=0,
        stacked_on="",
        base_name=base.name,
        base_pretrained=None,
        base_digest=base_digest or base.base_digest,
    )
    return Adapter(deltas, provenance)


@contextmanager
def running_service(folder: Path, encoder: Path, **settings: Any) -> Iterator[RunningService]:
    """A ready service on a free port, in a thread of this process; stopped at the end."""
    chosen = Settings(data=folder, encoder=str(encoder), **{"threads": 1, **settings})
    folder.mkdir(parents=True, exist_ok=True)
    schema.upgrade(chosen.database_location)
    application = create_app(chosen)
    services: Services = application.state.services
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", loop="asyncio"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_for(
                lambda: _answers(services),
                seconds=READY_SECONDS,
                what="the service to be ready",
            )
            with httpx.Client(base_url=url, timeout=30) as http:
                yield RunningService(url, http, services)
        finally:
            services.stopping.set()
            server.should_exit = True
            thread.join(timeout=READY_SECONDS)
            close_database(services.engine)  # the service may not have stopped in time


def _answers(services: Services) -> bool:
    try:
        services.encoder.live()
    except NotReady:
        return False
    return True


def run_app(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`python -m app …` to its end, in an environment with just these settings."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "app", *arguments],
        cwd=ROOT,
        env=environment(folder, settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with no other Emend settings than these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMEND_")}
    return kept | {"EMEND_DATA": str(folder), "EMEND_PORT": "0", **settings}


def picture(seed: int, *, size: tuple[int, int] = (24, 20), form: str = "PNG") -> bytes:
    """A small image of random pixels; another seed, another image."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, form)
    return file.getvalue()


def data_uri(image: bytes, media_type: str = "image/png") -> str:
    """An image as it stands in JSON."""
    return f"data:{media_type};base64,{base64.b64encode(image).decode()}"


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer, checked for everything RFC 9457 and the contract ask."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail", "errors"}
    assert problem["status"] == status
    assert problem["type"].startswith("urn:emend:problem:")
    return problem
