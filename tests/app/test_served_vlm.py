"""When the vision-language model is loaded, what is said without it, and one swap for both."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

import app.served_vlm
from encoder.clip import load_encoder
from encoder.vlm.model import VisionLanguageModel
from registry import schema
from registry.session import default_url
from tests.support.service import (
    RunningService,
    data_uri,
    picture,
    problem_of,
    run_app,
    running_service,
)
from tests.support.tiny_encoder import tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder
from tests.support.waiting import wait_for

QUESTION = "What is this?"
OPTIONS = ("a stop sign", "a cat", "yes", "no")
URN = "urn:emend:problem:"
LONG_ENOUGH = 30  # answers


@pytest.fixture
def load_when_told(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The model is loaded when the event is set."""
    go_on, load = threading.Event(), app.served_vlm.load_vlm

    def wait_and_load(*arguments: Any, **options: Any) -> VisionLanguageModel:
        assert go_on.wait(60)
        return load(*arguments, **options)

    monkeypatch.setattr(app.served_vlm, "load_vlm", wait_and_load)
    yield go_on
    go_on.set()


@pytest.fixture(scope="module")
def foreign_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model over another encoder than the one that is served."""
    folder = tmp_path_factory.mktemp("foreign")
    other = tiny_folder(folder / "another-encoder", seed=7)
    return tiny_vlm_folder(folder / "vlm", load_encoder(str(other)))


def _ask(service: RunningService) -> Any:
    return service.http.post("/vqa", files={"image": picture(1)}, data={"question": QUESTION})


def _metric(service: RunningService, line: str) -> bool:
    return line in service.http.get("/metrics").text.splitlines()


def test_it_loads_in_the_background_and_readiness_waits_for_it(
    tmp_path: Path, tiny_encoder: Path, vlm_folder: Path, load_when_told: threading.Event
) -> None:
    with running_service(tmp_path / "data", tiny_encoder, vlm=str(vlm_folder)) as service:
        assert service.classify(picture(1), "a", "b")["adapter"] == 0
        not_ready = problem_of(service.http.get("/health/ready"), 503)
        assert "vision-language model" in not_ready["detail"]
        answer = _ask(service)
        assert problem_of(answer, 503)["type"] == URN + "vlm-loading"
        assert int(answer.headers["retry-after"]) > 0
        assert _metric(service, "emend_vlm_loaded 0.0")
        assert _metric(service, "emend_ready 0.0")
        load_when_told.set()
        wait_for(
            lambda: service.http.get("/health/ready").status_code == 200,
            seconds=60,
            what="the service to be ready",
        )
        name = service.services.vlm.model().name
        assert service.http.get("/health/ready").json()["vlm"] == {"name": name, "state": "loaded"}
        assert _metric(service, "emend_vlm_loaded 1.0")
        assert _ask(service).status_code == 200
        assert _metric(service, 'emend_vlm_questions_total{answer="text"} 1.0')


def test_lazily_it_is_loaded_by_the_first_question(
    tmp_path: Path, tiny_encoder: Path, vlm_folder: Path, load_when_told: threading.Event
) -> None:
    settings = {"vlm": str(vlm_folder), "vlm_load": "lazy"}
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        ready = service.http.get("/health/ready").json()
        assert ready["vlm"] == {"name": str(vlm_folder), "state": "not asked yet"}
        assert problem_of(_ask(service), 503)["type"] == URN + "vlm-loading"
        assert service.http.get("/health/ready").json()["vlm"]["state"] == "loading"
        assert problem_of(_ask(service), 503)["type"] == URN + "vlm-loading"
        load_when_told.set()
        service.wait_for_vlm()
        assert _ask(service).status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_without_a_name_is_told_and_not_waited_for(
    tmp_path: Path, tiny_encoder: Path, vlm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> VisionLanguageModel:
        raise LookupError("of no class that anybody expects")

    monkeypatch.setattr(app.served_vlm, "load_vlm", fail)
    settings = {"vlm": str(vlm_folder), "vlm_load": "lazy"}
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        failed: list[Exception] = []
        service.services.vlm.on_failure = failed.append
        _ask(service)
        wait_for(lambda: service.services.vlm.state == "unusable", seconds=60, what="the failure")
        answer = _ask(service)
        assert problem_of(answer, 503)["type"] == URN + "vlm-unusable"
        assert "retry-after" not in answer.headers
        assert not failed  # it classifies all the same
        assert service.classify(picture(1), "a", "b")["adapter"] == 0


def test_without_one_it_says_so_and_not_to_ask_again(shared_service: RunningService) -> None:
    answer = _ask(shared_service)
    problem = problem_of(answer, 503)
    assert problem["type"] == URN + "vlm-absent"
    assert "EMEND_VLM" in problem["detail"]
    assert "retry-after" not in answer.headers
    assert shared_service.http.get("/health/ready").json()["vlm"] is None
    with openai.OpenAI(base_url=f"{shared_service.url}/v1", api_key="unused") as client:
        assert client.models.list().data == []
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": QUESTION}]
            )
    assert refused.value.status_code == 503
    assert refused.value.code == "vlm_absent"
    counted = 'emend_requests_total{method="POST",route="/v1/chat/completions",status="503"} 1.0'
    assert _metric(shared_service, counted)  # the library did not ask again


def test_one_of_another_tower_keeps_the_process_from_starting(
    tmp_path: Path, tiny_encoder: Path, foreign_vlm: Path
) -> None:
    schema.upgrade(default_url(tmp_path))
    settings = {"EMEND_ENCODER": str(tiny_encoder), "EMEND_VLM": str(foreign_vlm)}
    done = run_app(tmp_path, **settings)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if "Emend cannot start" in line]
    expected = json.loads((foreign_vlm / "config.json").read_text())["emend"]["tower"]["name"]
    assert expected in sentence
    assert load_encoder(str(tiny_encoder)).name in sentence


def test_lazily_one_of_another_tower_is_told_to_whoever_asks(
    tmp_path: Path, tiny_encoder: Path, foreign_vlm: Path
) -> None:
    settings = {"vlm": str(foreign_vlm), "vlm_load": "lazy"}
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        _ask(service)
        wait_for(lambda: service.services.vlm.state == "unusable", seconds=60, what="the refusal")
        answer = _ask(service)
        problem = problem_of(answer, 503)
        assert problem["type"] == URN + "vlm-unusable"
        assert "tower" in problem["detail"]
        assert "retry-after" not in answer.headers
        assert service.classify(picture(1), "a", "b")["adapter"] == 0


@pytest.mark.parametrize("name", ["bundeld", "/nowhere/at/all"])
def test_one_that_is_not_there_keeps_the_process_from_starting(
    tmp_path: Path, tiny_encoder: Path, name: str
) -> None:
    schema.upgrade(default_url(tmp_path))
    done = run_app(tmp_path, EMEND_ENCODER=str(tiny_encoder), EMEND_VLM=name)
    assert done.returncode == 1
    assert name in done.stderr


def test_every_answer_is_of_the_one_version_that_it_names_while_versions_change(
    tmp_path: Path, tiny_encoder: Path, vlm_folder: Path
) -> None:
    with running_service(tmp_path / "data", tiny_encoder, vlm=str(vlm_folder)) as service:
        service.wait_for_vlm()
        service.add_adapter(seed=1)
        expected = {version: _all_answers(service, str(version)) for version in (0, 1)}
        assert expected[0] != expected[1]
        ended = threading.Event()
        found: list[tuple[int, dict[str, Any]]] = []

        def keep_asking(ask: Callable[[RunningService, str], tuple[int, dict[str, Any]]]) -> None:
            while not ended.is_set():
                found.append(ask(service, "live"))

        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(keep_asking, ask) for ask in (*WAYS, *WAYS)]
            try:
                for number in range(12):
                    service.http.post("/promotions", json={"version": 1 - number % 2})
                    enough = len(found) + LONG_ENOUGH
                    wait_for(
                        lambda: len(found) > enough or _failed(asking),  # noqa: B023
                        seconds=60,
                        what="more answers",
                    )
            finally:
                ended.set()
            for each in asking:
                each.result()
    assert {version for version, _ in found} == {0, 1}
    for version, answer in found:
        for name, value in answer.items():
            assert value == pytest.approx(expected[version][name], abs=1e-3), name


def _failed(asking: list[Any]) -> bool:
    return any(each.done() for each in asking)


def _all_answers(service: RunningService, adapter: str) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for ask in WAYS:
        answers |= ask(service, adapter)[1]
    return answers


def _by_options(service: RunningService, adapter: str) -> tuple[int, dict[str, Any]]:
    answer = service.ask(picture(1), QUESTION, *OPTIONS, adapter=adapter)
    likelihoods = [each["log_likelihood"] for each in answer["options"]]
    return answer["adapter"], {"options": likelihoods, "digest": answer["encoder_digest"]}


def _by_class(service: RunningService, adapter: str) -> tuple[int, dict[str, Any]]:
    answer = service.classify(picture(1), "a", "b", adapter=adapter)
    scores = {each["label"]: each["score"] for each in answer["predictions"][0]["labels"]}
    return answer["adapter"], {
        "classes": [scores["a"], scores["b"]],
        "digest": answer["encoder_digest"],
    }


def _by_stream(service: RunningService, adapter: str) -> tuple[int, dict[str, Any]]:
    name = service.services.vlm.model().name
    image = {"type": "image_url", "image_url": {"url": data_uri(picture(1))}}
    content = {
        "model": name if adapter == "live" else f"{name}@{adapter}",
        "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}, image]}],
        "max_tokens": 8,
        "stream": True,
    }
    answer = service.http.post("/v1/chat/completions", json=content)
    assert answer.status_code == 200, answer.text
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    (model,) = {chunk["model"] for chunk in chunks}
    version = int(model.rpartition("@")[2])
    assert answer.headers["x-adapter-version"] == str(version)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    return version, {"text": text}


WAYS = (_by_options, _by_class, _by_stream)
