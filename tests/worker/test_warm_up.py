"""What the next job will need is computed while the worker is idle."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from registry.artifacts import keep_artifact
from registry.control_sets import NewControlImage, add_control_images, put_control_set
from registry.label_sets import get_label_set, put_label_set
from registry.session import transaction
from tests.support.running_worker import COLOURS, Desk, Here, picture
from worker.warm_up import WarmUp


def add_controls(desk: Desk, *, first: int, count: int) -> None:
    now = datetime.now(UTC)
    with transaction(desk.engine) as session:
        put_label_set(session, "colours", [*COLOURS], now=now)
        put_control_set(session, "colours", label_set="colours", now=now)
        images = []
        for number in range(first, first + count):
            data = picture("sea", number)
            sha256 = desk.store.put(data)
            keep_artifact(
                session, desk.store, sha256, size=len(data), media_type="image/png", now=now
            )
            images.append(NewControlImage(sha256, "sea"))
        add_control_images(session, "colours", images)


def test_waits_until_the_control_sets_stay_as_they_are(here: Here) -> None:
    warm_up = WarmUp(here.workshop)
    assert not warm_up.is_due()
    assert warm_up.is_due()
    add_controls(here.desk, first=0, count=2)
    assert not warm_up.is_due()
    assert warm_up.is_due()
    warm_up.run()
    assert not warm_up.is_due()


def test_the_next_load_reads_only_what_is_new(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up = WarmUp(here.workshop)
    read: list[int] = []
    reader = type(here.workshop.controls.reader)
    original = reader.read

    def counting(self: object, wanted: list[object]) -> object:
        read.append(len(wanted))
        return original(self, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "read", counting)
    for first in (0, 3):
        add_controls(here.desk, first=first, count=3)
        assert [warm_up.is_due(), warm_up.is_due()] == [False, True]
        warm_up.run()
        warm_up.run()
    assert read == [3, 3]
    job = here.edit([("apple", 1), ("leaf", 1)])
    assert job.report is not None
    assert job.report["controls"][0]["n"] == 6
    assert read == [3, 3, 2]  # the corrections


def test_a_broken_control_set_is_left_for_the_job_to_tell(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    add_controls(here.desk, first=0, count=1)
    with transaction(here.desk.engine) as session:
        get_label_set(session, "colours").labels = ["apple"]  # an older release let them go
    warm_up = WarmUp(here.workshop)
    assert [warm_up.is_due(), warm_up.is_due()] == [False, True]
    warm_up.run()
    assert "'sea'" in caplog.text
    job = here.edit([("apple", 1)])
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "control-label-unknown"
    assert not warm_up.is_due()


def test_a_stop_interrupts_it(here: Here) -> None:
    warm_up = WarmUp(here.workshop)
    assert [warm_up.is_due(), warm_up.is_due()] == [False, True]
    here.workshop.stopping.set()
    warm_up.run()
    assert not here.workshop.controls._bundled
