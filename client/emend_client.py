"""A small synchronous client of a running Emend service.

Images travel as the bytes of their files. Calls that take many images are cut into requests of at
most :data:`IMAGES_PER_REQUEST`, the contract's limit.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

IMAGES_PER_REQUEST = 64
ASK_EVERY = 0.5
SILENCE_SECONDS = 60.0
LOADING = "urn:emend:problem:vlm-loading"
ENDED = ("succeeded", "rejected", "failed", "cancelled")
Json = dict[str, Any]


class EmendError(Exception):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Json) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")


class JobEnded(Exception):
    """An edit job ended in another state than the caller needs."""

    def __init__(self, job: Json) -> None:
        self.job = job
        reason = (job.get("report") or {}).get("reason") or job.get("error")
        super().__init__(f"edit job {job['id']} ended as {job['status']}: {reason}")


class EmendClient:
    """One service at ``base_url``. Raises :class:`EmendError` for every answer of 400 or above."""

    def __init__(self, base_url: str, *, timeout: float = 120.0) -> None:
        self.http = httpx.Client(base_url=base_url, timeout=timeout)

    def __enter__(self) -> EmendClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send one request. Raises ``httpx.TransportError`` where no service answers."""
        response = self.http.request(method, path, **content)
        if response.status_code >= 400:
            raise EmendError(response.status_code, _problem(response))
        return response

    def get(self, path: str) -> Json:
        """The JSON at ``path``."""
        return _object(self.request("GET", path))

    def wait_ready(self, *, seconds: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Return once ``/health/ready`` answers 200. Raises TimeoutError after ``seconds``, or as
        soon as ``alive()`` says that the service has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and alive():
            try:
                if self.http.get("/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.1)
        raise TimeoutError(f"the service at {self.http.base_url} was not ready in {seconds:.0f} s")

    def put_label_set(
        self, name: str, labels: Sequence[str], templates: Sequence[str] | None = None
    ) -> None:
        """Define or replace a label set."""
        body: Json = {"labels": list(labels)}
        if templates is not None:
            body["templates"] = list(templates)
        self.request("PUT", f"/label-sets/{name}", json=body)

    def put_control_set(
        self,
        name: str,
        label_set: str,
        images: Sequence[bytes],
        *,
        labels: Sequence[str] | None = None,
        budget: float | None = None,
    ) -> None:
        """Define a control set and send its images, labelled or not."""
        body: Json = {"label_set": label_set}
        if budget is not None:
            body["budget"] = budget
        self.request("PUT", f"/control-sets/{name}", json=body)
        for start in range(0, len(images), IMAGES_PER_REQUEST):
            part = slice(start, start + IMAGES_PER_REQUEST)
            data = {"label": list(labels[part])} if labels is not None else {}
            self.request(
                "POST", f"/control-sets/{name}/images", files=_files(images[part]), data=data
            )

    def ask_control_set(
        self,
        name: str,
        images: Sequence[bytes],
        questions: Sequence[str],
        *,
        answers: Sequence[str] | None = None,
        options: Sequence[str] | None = None,
        budget: float | None = None,
    ) -> None:
        """Have a control set ask one question about each image, with the answers that are expected
        and the options that all of them are chosen from, where there are any. A set that is not
        there yet is made, with this budget and without a label set."""
        if not any(one["name"] == name for one in self.get("/control-sets")["control_sets"]):
            self.request("PUT", f"/control-sets/{name}", json={"budget": budget})
        for start in range(0, len(images), IMAGES_PER_REQUEST):
            part = slice(start, start + IMAGES_PER_REQUEST)
            data: dict[str, Any] = {"question": list(questions[part])}
            if answers is not None:
                data["answer"] = list(answers[part])
            if options is not None:
                data["option"] = list(options)
            self.request(
                "POST", f"/control-sets/{name}/images", files=_files(images[part]), data=data
            )

    def classify(
        self,
        images: Sequence[bytes],
        *,
        label_set: str | None = None,
        labels: Sequence[str] | None = None,
        adapter: str | int = "live",
        top_k: int = 1,
    ) -> list[Json]:
        """One prediction an image, in order: ``{"id", "labels": [{"label", "score"}, ...]}``."""
        data: dict[str, Any] = {"adapter": str(adapter), "top_k": str(top_k)}
        if label_set is not None:
            data["label_set"] = label_set
        if labels is not None:
            data["label"] = list(labels)
        predictions: list[Json] = []
        for start in range(0, len(images), IMAGES_PER_REQUEST):
            files = _files(images[start : start + IMAGES_PER_REQUEST])
            answer = _object(self.request("POST", "/classify", files=files, data=data))
            predictions += answer["predictions"]
        return predictions

    def answers(self, images: Sequence[bytes], **options: Any) -> list[str]:
        """The first label of each image's prediction; options as in :meth:`classify`."""
        return [p["labels"][0]["label"] for p in self.classify(images, top_k=1, **options)]

    def ask(
        self,
        image: bytes,
        question: str,
        *,
        options: Sequence[str] | None = None,
        adapter: str | int = "live",
        normalise: bool = False,
    ) -> Json:
        """The answer to a question about an image: ``{"answer", "options", "adapter", ...}``. With
        options it is the likeliest of them, as a whole or, with ``normalise``, by token.

        While the service loads its model, the question waits for :data:`SILENCE_SECONDS`.
        """
        data: dict[str, Any] = {"question": question, "adapter": str(adapter)}
        if options is not None:
            data |= {"option": list(options), "normalise": str(normalise).lower()}
        deadline = time.monotonic() + SILENCE_SECONDS
        while True:
            try:
                return _object(self.request("POST", "/vqa", files=_files([image]), data=data))
            except EmendError as refusal:
                if refusal.problem.get("type") != LOADING or time.monotonic() > deadline:
                    raise
            time.sleep(ASK_EVERY)

    def correct(
        self,
        images: Sequence[bytes],
        labels: Sequence[str] | None = None,
        *,
        label_set: str | None = None,
        predicted: Sequence[str] | None = None,
        question: str | None = None,
        answer: str | Sequence[str] | None = None,
        wrong_answer: str | Sequence[str] | None = None,
    ) -> list[str]:
        """Send corrections: of labels, or of answers to a question, which are one for all images or
        one an image. Returns the ids of the edit jobs that took them, without repeats."""
        jobs: dict[str, None] = {}
        columns = {
            "label": labels,
            "predicted": predicted,
            "answer": answer,
            "wrong_answer": wrong_answer,
        }
        once = {"label_set": label_set, "question": question}
        for start in range(0, len(images), IMAGES_PER_REQUEST):
            data: dict[str, Any] = {name: text for name, text in once.items() if text is not None}
            for name, column in columns.items():
                if column is not None:
                    own = slice(start, start + IMAGES_PER_REQUEST)
                    data[name] = column if isinstance(column, str) else list(column[own])
            files = _files(images[start : start + IMAGES_PER_REQUEST])
            answered = _object(self.request("POST", "/corrections", files=files, data=data))
            jobs[answered["edit_job"]["id"]] = None
        return list(jobs)

    def events(self, job: str) -> Iterator[Json]:
        """The job's states as the service streams them, the last one ended."""
        with self.http.stream("GET", f"/edit-jobs/{job}/events") as stream:
            if stream.status_code >= 400:
                stream.read()
                raise EmendError(stream.status_code, _problem(stream))
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def wait_job(self, job: str, *, progress: Callable[[Json], None] = lambda _: None) -> Json:
        """Follow a job to its end, through restarts of the service.

        Raises :class:`JobEnded` unless it succeeded, and what kept the service from answering for
        :data:`SILENCE_SECONDS`.
        """
        state: Json = {}
        with contextlib.suppress(httpx.TransportError):
            for state in self.events(job):
                progress(state)
        if state.get("status") not in ENDED:  # the stream broke off: ask until it ends
            state = self._poll(job, progress)
        if state["status"] != "succeeded":
            raise JobEnded(state)
        return state

    def _poll(self, job: str, progress: Callable[[Json], None]) -> Json:
        heard = time.monotonic()
        while True:
            try:
                state = self.get(f"/edit-jobs/{job}")
            except (httpx.TransportError, EmendError) as failure:
                if not _passes(failure) or time.monotonic() - heard > SILENCE_SECONDS:
                    raise
            else:
                heard = time.monotonic()
                progress(state)
                if state["status"] in ENDED:
                    return state
            time.sleep(ASK_EVERY)

    def promote(self, version: int, reason: str) -> Json:
        """Make a version live; an earlier one is a rollback."""
        body = {"version": version, "reason": reason}
        return _object(self.request("POST", "/promotions", json=body))

    def adapter(self, version: int | str = "live") -> Json:
        """An adapter's description."""
        return self.get(f"/adapters/{version}")


def _passes(failure: httpx.TransportError | EmendError) -> bool:
    """Whether asking again can help: nobody answered, or the service was not ready to."""
    return not isinstance(failure, EmendError) or failure.status == 503


def _files(images: Sequence[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{index}", data)) for index, data in enumerate(images)]


def _object(response: httpx.Response) -> Json:
    answer: Json = response.json()
    return answer


def _problem(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        return {"title": response.reason_phrase, "detail": response.text[:200]}
    return body if isinstance(body, dict) else {"title": response.reason_phrase}
