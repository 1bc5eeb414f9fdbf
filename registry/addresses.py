"""What may be told of a store's address and of its failures: nothing that proves who asks."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")


def shown(text: str) -> str:
    """Without logins and queries in the URLs that it holds."""
    return _QUERY.sub(r"\1", _LOGIN.sub("", text))


def reason_of(problem: Exception) -> str:
    """A failure in one line."""
    said = getattr(problem, "strerror", None) or str(problem)
    if isinstance(problem, TimeoutError):
        said = "it does not answer in time"
    if isinstance(problem, PermissionError) and problem.errno is None:  # not the file system's
        said = f"access is denied ({said})"
    return shown(" ".join(said.split())) or type(problem).__name__
