from __future__ import annotations

import uuid

from registry.identity import new_id


def test_ids_are_version_7_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(uuid.UUID(one).version == 7 for one in ids)
    assert all(uuid.UUID(one).variant == uuid.RFC_4122 for one in ids)
    times = [one[:16] for one in ids]
    assert times == sorted(times)
