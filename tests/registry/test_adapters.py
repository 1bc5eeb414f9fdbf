from __future__ import annotations

from pathlib import Path

import pytest

from registry.adapters import (
    NewAdapter,
    correction_counts,
    get_adapter,
    list_adapters,
    record_adapter,
)
from registry.errors import AdapterMissing, ArtifactMissing, BaseMismatch, StorageUnavailable
from registry.promotions import list_promotions, live_promotion, promote
from registry.snapshots import Chain, chain
from tests.support.database import BASE, NOON, Memory, together


def test_version_0_is_an_ordinary_row_with_an_empty_adapter(memory: Memory) -> None:
    with memory.reading() as session:
        row = get_adapter(session, 0)
        assert (row.parent, row.stacked_on, row.parameters) == (None, None, 0)
        assert (row.base_name, row.base_digest) == ("tiny", BASE)
        assert memory.store.get(row.digest) == b"the empty adapter"
        assert live_promotion(session).version == 0
        assert chain(session, 0) == Chain(None, ())


def test_the_base_is_made_once_however_many_processes_start(bare_memory: Memory) -> None:
    assert together(6, lambda _: bare_memory.ensure_base()) == [None] * 6
    bare_memory.ensure_base()
    with bare_memory.reading() as session:
        assert [row.version for row in list_adapters(session).items] == [0]
        assert [row.id for row in list_promotions(session).items] == [1]


def test_data_of_another_base_encoder_is_refused(memory: Memory) -> None:
    with pytest.raises(BaseMismatch) as caught:
        memory.ensure_base(digest="f" * 64, name="another")
    assert caught.value.recorded == BASE
    assert "'tiny'" in str(caught.value)
    assert "'another'" in str(caught.value)


def test_a_version_keeps_all_that_made_it(memory: Memory) -> None:
    version = memory.edit({"one": "cat", "two": "dog"})
    with memory.reading() as session:
        row = get_adapter(session, version)
        assert (version, row.parent, row.stacked_on, row.method) == (1, 0, None, "lorsu")
        assert (row.report, row.created_at) == ({"verdict": "promoted"}, NOON)
        assert memory.store.get(row.digest).startswith(b"adapter of")
        assert correction_counts(session, [0, version]) == {0: 0, version: 2}


def test_a_chain_is_what_is_merged(memory: Memory) -> None:
    memory.edit({"1": "cat"})  # fitted on the base
    memory.edit({"2": "cat"}, stacked=True)
    memory.edit({"3": "cat"}, stacked=True)
    memory.edit({"4": "cat"})  # all of it fitted again from the base
    memory.edit({"5": "cat"}, stacked=True)
    with memory.writing() as session:
        live = live_promotion(session)
        promote(session, 2, replaces=live.id, reason="rollback", now=NOON)
    memory.edit({"6": "cat"}, stacked=True)
    with memory.reading() as session:
        chains = {v: [file.version for file in chain(session, v).adapters] for v in range(1, 7)}
        assert chains == {
            1: [1],
            2: [1, 2],
            3: [1, 2, 3],
            4: [4],
            5: [4, 5],
            6: [1, 2, 6],
        }
        assert get_adapter(session, 0).depth == 0
        depths = {version: get_adapter(session, version).depth for version in chains}
        assert depths == {version: len(versions) for version, versions in chains.items()}


def test_versions_page_newest_first(memory: Memory) -> None:
    for number in range(3):
        memory.edit({str(number): "cat"}, verdict="rejected")
    with memory.reading() as session:
        page = list_adapters(session, limit=3)
        assert [row.version for row in page.items] == [3, 2, 1]
        rest = list_adapters(session, limit=3, cursor=page.next_cursor)
        assert ([row.version for row in rest.items], rest.next_cursor) == ([0], None)


def test_unknown_versions_are_named(memory: Memory) -> None:
    with memory.reading() as session:
        for look in (get_adapter, chain):
            with pytest.raises(AdapterMissing) as caught:
                look(session, 12)
            assert caught.value.key == 12


def test_a_version_whose_file_is_not_stored_is_refused(memory: Memory) -> None:
    new = NewAdapter(
        parent=0,
        stacked_on=None,
        method="lorsu",
        config={},
        seed=0,
        base_name="tiny",
        base_pretrained=None,
        base_digest=BASE,
        digest="a" * 64,
        bytes=1,
        parameters=1,
        strength=1.0,
        edit_job_id="e" * 32,
        report={},
    )
    with pytest.raises(ArtifactMissing), memory.writing() as session:
        record_adapter(session, memory.store, new, now=NOON)


def test_a_base_whose_file_cannot_be_stored_is_made_later(bare_memory: Memory) -> None:
    in_the_way = Path(bare_memory.store.url) / "incoming"
    in_the_way.write_text("not a folder")
    with pytest.raises(StorageUnavailable):
        bare_memory.ensure_base()
    with bare_memory.reading() as session:
        assert list_adapters(session).items == []
    in_the_way.unlink()
    bare_memory.ensure_base()
    with bare_memory.reading() as session:
        assert live_promotion(session).version == 0
