"""An edit of both towers, from its request over HTTP to the answers of the version it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from editing.methods import METHODS
from encoder.adapter import Adapter
from encoder.clip import Encoder, adopt_model
from encoder.tower import view_text_tower
from registry.methods import list_methods
from registry.session import reading
from tests.support.running_worker import COLOURS, Here, open_desk, open_shop, picture
from tests.support.running_worker import QUICK as QUICK_EDIT
from tests.support.service import RunningService, running_service
from tests.support.tiny_encoder import tiny_encoder, tiny_model
from worker.startup import announce
from worker.versions import load_version

BOTH = {**QUICK_EDIT, "towers": "both"}
PICTURES = [("apple", 1), ("apple", 2), ("leaf", 1), ("sea", 1)]
CONTROLS = [(label, number) for label in COLOURS for number in (7, 8, 9)]
TEMPLATES = ["a {}", "the colour of a {}"]


@pytest.fixture
def stack(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunningService, Here]]:
    """A service and a worker over one folder, with a label set and a control set."""
    threads = torch.get_num_threads()
    with (
        open_desk(tmp_path) as desk,
        open_shop(desk, monkeypatch) as workshop,
        running_service(desk.folder / "data", desk.folder / "encoder") as service,
    ):
        labels = {"labels": [*COLOURS], "templates": TEMPLATES}
        assert service.http.put("/label-sets/colours", json=labels).is_success
        control = {"label_set": "colours", "budget": 100}
        assert service.http.put("/control-sets/noise", json=control).is_success
        files = [("image", picture(*each)) for each in CONTROLS]
        sent = service.http.post("/control-sets/noise/images", files=files)
        assert sent.is_success, sent.text
        yield service, Here(desk, workshop)
    torch.set_num_threads(threads)


def edit(stack: tuple[RunningService, Here], pictures: Any, config: dict[str, Any]) -> Any:
    """The ended job of these corrections."""
    service, here = stack
    for label, number in pictures:
        service.correct(picture(label, number), label, label_set="colours")
    asked = service.http.post("/edit-jobs", json={"method": "lorsu", "config": config})
    assert asked.status_code == 202, asked.text
    here.run(asked.json()["id"])
    return service.http.get(f"/edit-jobs/{asked.json()['id']}").json()


def answers(service: RunningService, pictures: Any, version: int | None = None) -> list[Any]:
    chosen = {} if version is None else {"adapter": version}
    return [
        service.classify(picture(*each), label_set="colours", **chosen)["predictions"][0]["labels"]
        for each in pictures
    ]


def right(told: list[Any], pictures: Any) -> int:
    pairs = zip(told, pictures, strict=True)
    return sum(best[0]["label"] == label for best, (label, _) in pairs)


def changed(before: list[Any], after: list[Any]) -> float:
    pairs = list(zip(before, after, strict=True))
    return 100 * sum(one[0]["label"] != two[0]["label"] for one, two in pairs) / len(pairs)


def text_weights(encoder: Encoder) -> set[str]:
    return set(view_text_tower(encoder.model).weights)


def test_a_version_answers_as_its_gate_said_and_rollback_as_before(
    stack: tuple[RunningService, Here],
) -> None:
    service, here = stack
    before, controls = answers(service, PICTURES), answers(service, CONTROLS)
    job = edit(stack, PICTURES, BOTH)
    assert (job["status"], job["adapter"]) == ("succeeded", 1), job
    row = here.desk.adapter(1)
    adapter = Adapter.from_bytes(here.desk.store.get(row.digest), digest=row.digest)
    assert text_weights(here.workshop.base) & adapter.deltas.keys()

    after, report = answers(service, PICTURES, 1), job["report"]
    assert after != before
    assert report["corrections"]["before"] == 100 * right(before, PICTURES) / len(PICTURES)
    assert report["corrections"]["after"] == 100 * right(after, PICTURES) / len(PICTURES)
    (noise,) = report["controls"]
    assert noise["flips"] == pytest.approx(changed(controls, answers(service, CONTROLS, 1)))
    assert noise["before"] == 100

    assert service.http.post("/promotions", json={"version": 0, "reason": "undo"}).is_success
    assert answers(service, PICTURES, 0) == before
    assert answers(service, CONTROLS, 0) == controls


def test_edits_on_top_start_from_the_texts_that_moved(stack: tuple[RunningService, Here]) -> None:
    service, here = stack
    assert edit(stack, PICTURES, BOTH)["status"] == "succeeded"
    for version, towers in ((2, "vision"), (3, "both")):
        new = [("leaf", version), ("sea", version)]
        job = edit(stack, new, {**BOTH, "towers": towers, "replay": "stack"})
        assert (job["status"], job["adapter"]) == ("succeeded", version), job
        assert here.desk.adapter(version).stacked_on == version - 1
        found = answers(service, new, version)
        assert job["report"]["corrections"]["after"] == 100 * right(found, new) / 2
        earlier = job["report"]["earlier"]["before"]
        known = PICTURES + [(label, n) for n in range(2, version) for label in ("leaf", "sea")]
        assert earlier == 100 * right(answers(service, known, version - 1), known) / len(known)
    first, second, third = (load_version(here.workshop, version) for version in (1, 2, 3))
    assert first.text_digest == second.text_digest != third.text_digest
    assert first.text_digest != here.workshop.base.text_digest


def test_an_encoder_whose_text_tower_cannot_move_says_so(
    stack: tuple[RunningService, Here],
) -> None:
    service, here = stack
    tiny, model = tiny_encoder("siglip"), tiny_model("siglip")
    model.text = torch.nn.Linear(2, 2)
    foreign = replace(
        adopt_model(model, tiny.tokenizer, name=here.workshop.base.name),
        base_digest=here.workshop.base.base_digest,
    )
    announce(here.desk.engine, here.desk.store, foreign)
    with reading(here.desk.engine) as session:
        schemas = {row.name: row.config_schema for row in list_methods(session)}
    for method in METHODS:
        towers = schemas[method]["properties"]["towers"]
        assert "text tower 'Linear' is not supported" in towers["description"]
    refused = service.http.post("/edit-jobs", json={"config": {"towers": "both"}})
    assert refused.status_code == 422
    assert "config.towers" in refused.text
