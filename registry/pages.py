"""Listings by cursor, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.errors import CursorInvalid

T = TypeVar("T")
MAX_PAGE = 500


@dataclass(frozen=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


def page_of(rows: Sequence[T], limit: int, cursor_of: Callable[[T], str | int]) -> Page[T]:
    """Cut the one row too many that was asked for; it says whether there is a next page."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(items=shown, next_cursor=str(cursor_of(shown[-1])) if more else None)


def page_size(limit: int) -> int:
    """`limit` held between 1 and MAX_PAGE."""
    return max(1, min(limit, MAX_PAGE))


def number_cursor(cursor: str | None) -> int | None:
    """The number a cursor stands for. Raises CursorInvalid."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
        raise CursorInvalid(cursor)
    return int(cursor)


def identity_cursor(cursor: str | None) -> str | None:
    """The id a cursor stands for. Raises CursorInvalid."""
    if cursor is None:
        return None
    if len(cursor) != 32 or not set(cursor) <= set("0123456789abcdef"):
        raise CursorInvalid(cursor)
    return cursor
