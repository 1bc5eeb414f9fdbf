from __future__ import annotations

import pytest

from supervisor.processes import Address


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::", "http://[::1]:81"),
        ("example.test", "http://example.test:81"),
    ],
)
def test_url_is_one_that_can_be_reached(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    monkeypatch.setenv("EMEND_HOST", host)
    monkeypatch.setenv("EMEND_PORT", "81")
    assert Address().url == url
