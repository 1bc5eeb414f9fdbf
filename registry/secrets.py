"""Passwords in files: read, refused when weak, made when there is none yet."""

from __future__ import annotations

import os
import secrets
import uuid
from pathlib import Path

from registry.errors import SecretMissing, SecretWeak

FEWEST_CHARACTERS = 16
RANDOM_BYTES = 24
"""192 bits: 32 characters, none of which means anything in a URL."""
FEWEST_DIFFERENT = 6
READABLE = 0o444
"""The database's own server reads it under another user: what keeps it secret is who has the
folder."""
_KNOWN = ("password", "changeme", "change-me", "secret", "postgres", "redis", "emend", "example")


def read_secret(path: Path) -> str:
    """The password in a file, without the line's end. Raises SecretMissing, SecretWeak."""
    try:
        text = path.read_text(encoding="utf-8").strip("\r\n")
    except FileNotFoundError:
        raise SecretMissing(path, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise SecretMissing(path, reason or str(problem)) from problem
    _refuse_weak(path, text)
    return text


def ensure_secret(path: Path) -> bool:
    """Make a random password where there is none; True when it did. One that is there is checked.

    Raises SecretMissing when it cannot be written, SecretWeak.
    """
    try:
        made = not path.exists() and _make(path)
    except OSError as problem:
        reason = f"it cannot be written: {problem.strerror or problem}"
        raise SecretMissing(path, reason) from problem
    if not made:
        read_secret(path)
    return made


def _make(path: Path) -> bool:
    """False where somebody else made one meanwhile, who may have told others already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        aside.write_text(secrets.token_urlsafe(RANDOM_BYTES))
        aside.chmod(READABLE)
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def _refuse_weak(path: Path, text: str) -> None:
    if not text:
        raise SecretMissing(path, "it is empty")
    if not text.isprintable() or text != text.strip():
        raise SecretWeak(path, "it must be one line of visible characters")
    if len(text) < FEWEST_CHARACTERS:
        reason = f"it has {len(text)} characters, {FEWEST_CHARACTERS} are the fewest"
        raise SecretWeak(path, reason)
    if len(set(text)) < FEWEST_DIFFERENT:
        raise SecretWeak(path, f"it has fewer than {FEWEST_DIFFERENT} different characters")
    rest = text.lower()
    for word in _KNOWN:
        rest = rest.replace(word, "")
    if len(rest.strip("0123456789-_.!")) < FEWEST_DIFFERENT:
        raise SecretWeak(path, "it is made of well-known words and digits")
