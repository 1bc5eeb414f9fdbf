"""What a label, a name and a note may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from registry.errors import LabelDuplicate, LabelInvalid, NameInvalid, NoteInvalid

MAX_LABEL = 200
"""Characters, after normalisation."""
MAX_NOTE = 2000
"""Characters."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_UNSTORABLE = {"Cc", "Cs"}
"""Control characters and lone surrogates."""
_BLANK = {"Cf", "Zs", "Zl", "Zp"}


def flaw(clean: str, limit: int, *, spared: str = "") -> str | None:
    """Why a text whose outer white space is removed cannot be kept, or None: control characters
    other than those `spared`, nothing to see, more than `limit` characters."""
    kinds = {unicodedata.category(character) for character in clean if character not in spared}
    if kinds & _UNSTORABLE:
        return "has control characters or broken text in it"
    if kinds <= _BLANK:
        return "is empty"
    if len(clean) > limit:
        return f"has {len(clean)} characters, at most {limit} are allowed"
    return None


def normalise_label(text: str) -> str:
    """NFC, outer white space removed. Any script and emoji are welcome. Raises LabelInvalid."""
    label = unicodedata.normalize("NFC", text).strip()
    reason = flaw(label, MAX_LABEL)
    if reason is not None:
        raise LabelInvalid(text, reason)
    return label


def normalise_labels(texts: Iterable[str]) -> list[str]:
    """Each normalised, in order. Raises LabelDuplicate when two of them become the same."""
    labels: list[str] = []
    seen: set[str] = set()
    for text in texts:
        label = normalise_label(text)
        if label in seen:
            raise LabelDuplicate(label)
        seen.add(label)
        labels.append(label)
    return labels


def checked_name(name: str) -> str:
    """The name of a label set or control set, fit for a URL path. Raises NameInvalid."""
    if not _NAME.fullmatch(name):
        raise NameInvalid(name)
    return name


def normalise_note(text: str | None) -> str | None:
    """Stripped; None when nothing is left. Raises NoteInvalid."""
    note = (text or "").strip()
    if len(note) > MAX_NOTE:
        raise NoteInvalid(f"has {len(note)} characters, at most {MAX_NOTE} are allowed")
    kinds = {unicodedata.category(c) for c in note if c not in "\n\r\t"}
    if kinds & _UNSTORABLE:
        raise NoteInvalid("has control characters or broken text in it")
    return note or None
