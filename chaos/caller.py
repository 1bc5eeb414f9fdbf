"""One HTTP request to one API, measured and written down."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx

from chaos.ledger import Answer, Ledger
from chaos.stack import Stack

GIVE_UP_SECONDS = 12.0
"""Far beyond what an answer may take, so that how long it hung is seen."""
RETRY_SECONDS = 2.0
PASSING = frozenset({503, 507})
"""What may be asked again later, as it was."""


@dataclass(frozen=True)
class Reply:
    """`status` None: nobody answered. `body` is {} where it is not a JSON object."""

    status: int | None
    body: dict[str, Any]
    retry_after: float
    at: float
    """When it was sent, `time.time()`."""
    version: int | None = None
    """X-Adapter-Version."""

    @property
    def passes(self) -> bool:
        """Whether asking again can help."""
        return self.status is None or self.status in PASSING


class Caller:
    """Used by many threads. A connection a request: what is measured is the service, and not
    whether a kept connection has outlived it."""

    def __init__(self, stack: Stack, ledger: Ledger) -> None:
        self._ledger = ledger
        limits = httpx.Limits(max_keepalive_connections=0)
        self._clients = {
            api: httpx.Client(base_url=stack.url(api), timeout=GIVE_UP_SECONDS, limits=limits)
            for api in stack.apis
        }

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def call(
        self,
        api: str,
        method: str,
        path: str,
        *,
        expected: frozenset[int] = frozenset({200}),
        question: str | None = None,
        **content: Any,
    ) -> Reply:
        """`expected` are the statuses that this request may be answered with on a good day."""
        began, at = time.monotonic(), time.time()
        answer, trouble = None, None
        try:
            answer = self._clients[api].request(method, path, **content)
        except httpx.TransportError as problem:
            trouble = f"{type(problem).__name__}: {problem}"
        seconds = time.monotonic() - began
        body = _object(answer)
        self._ledger.note(
            Answer(
                at=at,
                seconds=seconds,
                api=api,
                method=method,
                path=path,
                status=None if answer is None else answer.status_code,
                expected=expected,
                problem=_problem(answer, body),
                retry_after=None if answer is None else answer.headers.get("Retry-After"),
                version=_version(answer),
                trouble=trouble,
                question=question,
            )
        )
        wait = answer.headers.get("Retry-After") if answer is not None else None
        pause = float(wait) if wait is not None and wait.isdecimal() else RETRY_SECONDS
        status = None if answer is None else answer.status_code
        return Reply(status, body, pause, at, _version(answer))


class Patience:
    """Waits that end when the storm is called off."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def rest(self, seconds: float) -> bool:
        """False once it is over."""
        return not self._over.wait(max(seconds, 0.0))

    def end(self) -> None:
        self._over.set()

    @property
    def over(self) -> bool:
        return self._over.is_set()


def _object(answer: httpx.Response | None) -> dict[str, Any]:
    if answer is None:
        return {}
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _problem(answer: httpx.Response | None, body: dict[str, Any]) -> str | None:
    if answer is None or answer.headers.get("Content-Type") != "application/problem+json":
        return None
    complete = {"type", "title", "status", "detail"} <= set(body)
    return str(body["type"]) if complete and body["status"] == answer.status_code else None


def _version(answer: httpx.Response | None) -> int | None:
    found = None if answer is None else answer.headers.get("X-Adapter-Version")
    return int(found) if found is not None else None
