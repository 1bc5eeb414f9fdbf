"""What a deployed stack must do, whatever runs it: containers, or processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

from client import EmendClient
from demo.photos import Pictures, digits
from tests.support.pictures import first_of_each

AGREE_SECONDS = 1.0
STATE = ("/promotions", "/corrections", "/edit-jobs", "/adapters")


def improve_and_roll_back(service: EmendClient) -> None:
    """On a base that was never edited: corrections become a better encoder, version 1; a rollback
    gives the answers from before."""
    material = digits(seed=1)
    given = first_of_each(material.corrections, 3, labels=4)
    held_out = first_of_each(material.held_out, 10, labels=4)
    service.put_label_set("digits", list(dict.fromkeys(given.labels)), [material.template])
    before = service.classify(held_out.images, label_set="digits")
    right_before = _right(service, held_out)
    assert _right(service, given) < 0.7
    (job,) = service.correct(given.images, given.labels, label_set="digits")
    ended = service.wait_job(job)
    assert service.adapter("live")["version"] == ended["adapter"] == 1
    assert _right(service, given) >= 0.98
    assert _right(service, held_out) >= right_before + 0.2
    service.promote(0, "undo")
    assert service.adapter("live")["version"] == 0
    after = service.classify(held_out.images, label_set="digits")
    assert [each["labels"] for each in after] == [each["labels"] for each in before]


def agree_within_a_second(service: EmendClient, replicas: Sequence[EmendClient]) -> None:
    """Where version 1 is there: no question that is asked more than a second after a promotion is
    answered by the version before."""
    image = digits(seed=1).held_out.images[0]
    for version in (1, 0, 1):
        service.promote(version, "do they agree?")
        promoted = time.monotonic()
        for replica in replicas:
            asked = time.monotonic()
            while _version(replica, image) != version:
                assert asked - promoted <= AGREE_SECONDS
                asked = time.monotonic()


def begin_job(service: EmendClient, seed: int) -> str:
    """A job that is being fitted right now."""
    given = first_of_each(digits(seed=seed).corrections, 2, labels=3)
    service.put_label_set("digits", list(dict.fromkeys(given.labels)))
    (job,) = service.correct(given.images, given.labels, label_set="digits")
    for state in service.events(job):
        if state["progress"]["phase"] == "training":
            return job
    raise AssertionError("the job ended before its training was seen")


def times_promoted(service: EmendClient, version: int) -> int:
    """Among the last promotions."""
    promotions = service.get("/promotions")["promotions"]
    return [each["version"] for each in promotions].count(version)


def known_to(service: EmendClient) -> list[object]:
    """Everything that must outlive a stop."""
    weights = service.request("GET", "/adapters/1/weights").content
    return [*(service.get(path) for path in STATE), weights]


def _right(service: EmendClient, pictures: Pictures) -> float:
    answers = service.answers(pictures.images, label_set="digits")
    pairs = zip(answers, pictures.labels, strict=True)
    return sum(answer == label for answer, label in pairs) / len(pictures.labels)


def _version(service: EmendClient, image: bytes) -> int:
    """Which one answers."""
    labels = {"label": ["one", "two"]}
    answer = service.request("POST", "/classify", files={"image": image}, data=labels)
    return int(answer.headers["X-Adapter-Version"])
