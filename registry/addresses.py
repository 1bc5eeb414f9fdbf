"""What may be told of an address and of its failures: nothing that proves who asks."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_LOGIN = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")


def shown(text: str) -> str:
    """Without logins and queries in the URLs that it holds."""
    return _QUERY.sub(r"\1", _LOGIN.sub("", text))


def parts_of(url: str) -> SplitResult | None:
    """None for what cannot be read as a URL. A slash, question mark or hash that stands unescaped
    in a password ends the host too early: such a URL is not read, whatever it may look like."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only now, and perhaps no number
    except ValueError:
        return None
    behind = f"{parts.path}{parts.query}{parts.fragment}"
    return None if "@" in behind else parts


def place_of(parts: SplitResult) -> str:
    """Scheme, host and port: what no password can be in."""
    host = parts.hostname or ""
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def reason_of(problem: Exception) -> str:
    """A failure in one line."""
    said = getattr(problem, "strerror", None) or str(problem)
    if isinstance(problem, TimeoutError):
        said = "it does not answer in time"
    if isinstance(problem, PermissionError) and problem.errno is None:  # not the file system's
        said = f"access is denied ({said})"
    return shown(" ".join(said.split())) or type(problem).__name__
