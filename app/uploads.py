"""Reads a request's fields and images, whether they come as multipart or as JSON.

Both forms become one :class:`Upload`: the bytes of the images in order, and the values of every
other field by its singular name. Singular and plural names mean the same (``image``, ``images``).
A field that the path does not know is refused, never dropped.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Never, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from app.deadline import uncounted
from app.errors import FieldInvalid, JsonInvalid, UnsupportedMediaType
from registry.errors import AdapterMissing

IMAGES_LIMIT = 64
FIELDS_LIMIT = 20_000
VERSION_DIGITS = 9
MULTIPART = "multipart/form-data"
JSON = "application/json"
PLURALS = {
    "images": "image",
    "labels": "label",
    "templates": "template",
    "predictions": "prediction",
    "questions": "question",
    "answers": "answer",
    "options": "option",
    "wrong_answers": "wrong_answer",
}
DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]*)*;base64,", re.ASCII | re.IGNORECASE)
NUL_ESCAPED = rb"\u0000"
WITHOUT_NUL = "text may not hold the NUL character"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

PLAIN = "plain values were expected, not null, lists or objects"
SMALL = 64 * 1024  # bytes of JSON; parsing so many takes about a millisecond
Value = str | int | float | bool
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Upload:
    """Images as they were sent and every other field's values, by singular name; ``objects`` are
    those of a field of JSON that holds a list of objects."""

    images: tuple[bytes, ...]
    fields: Mapping[str, tuple[Value, ...]]
    objects: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def texts(self, name: str) -> tuple[str, ...]:
        """Every value of a field of text. Raises `FieldInvalid` for anything but text."""
        values = self.fields.get(name, ())
        for value in values:
            if not isinstance(value, str):
                raise FieldInvalid(name, f"text was expected, not {value!r}")
            if "\0" in value:
                raise FieldInvalid(name, WITHOUT_NUL)
        return tuple(str(value) for value in values)

    def text(self, name: str) -> str | None:
        """The one value of a field of text, or None when it is absent."""
        texts = self.texts(name)
        if len(texts) > 1:
            raise FieldInvalid(name, f"given {len(texts)} times; once is enough")
        return texts[0] if texts else None

    def for_each(
        self, name: str, count: int, *, once_for_all: bool = True, of: str = "images"
    ) -> tuple[str | None, ...]:
        """A field's text for each of ``count`` images, or of whatever there are so many: given once
        for all of them, once for each, or not at all (None)."""
        texts = self.texts(name)
        if not texts:
            return (None,) * count
        if len(texts) == 1 and once_for_all:
            return texts * count
        if len(texts) != count:
            raise FieldInvalid(name, f"given {len(texts)} times for {count} {of}")
        return texts

    def one(self, name: str) -> Value | None:
        """The one value of a field of any type, or None when it is absent."""
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise FieldInvalid(name, f"given {len(values)} times; once is enough")
        return values[0] if values else None

    def integer(self, name: str) -> int | None:
        """The one whole number of a field, or None when it is absent."""
        value = self.one(name)
        if value is None:
            return None
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}", str(value), re.ASCII):
            raise FieldInvalid(name, f"a whole number was expected, not {str(value)[:80]!r}")
        return int(value)

    def flag(self, name: str) -> bool:
        """The one truth value of a field; absent means no."""
        value = self.one(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        known = {"true": True, "1": True, "false": False, "0": False}
        if str(value).lower() not in known:
            raise FieldInvalid(name, f"true or false was expected, not {str(value)[:80]!r}")
        return known[str(value).lower()]


async def read_upload(
    request: Request,
    allowed: frozenset[str],
    *,
    images_limit: int = IMAGES_LIMIT,
    may_be_objects: frozenset[str] = frozenset(),
) -> Upload:
    """The request's images and fields.

    Raises `UnsupportedMediaType`, `JsonInvalid`, `BodyTooLarge`, and `FieldInvalid` for an unknown
    field, for objects in a field that has none, or for too many images.
    """
    upload = await _read(request)
    for name in (*upload.fields, *upload.objects):
        if name not in allowed:
            raise FieldInvalid(name, f"unknown field; known: {', '.join(sorted(allowed))}")
    for name in upload.objects:
        if name not in may_be_objects:
            raise FieldInvalid(name, PLAIN)
    if len(upload.images) > images_limit:
        raise FieldInvalid("image", f"{len(upload.images)} images; {images_limit} at most")
    return upload


async def _read(request: Request) -> Upload:
    content_type = request.headers.get("content-type")
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == MULTIPART:
        return await _read_multipart(request)
    if media_type == JSON:
        return await parse_aside(_upload_from_json, await request.body())
    raise UnsupportedMediaType(content_type, (MULTIPART, JSON))


async def _read_multipart(request: Request) -> Upload:
    images: list[bytes] = []
    fields: dict[str, list[Value]] = {}
    async with request.form(max_files=FIELDS_LIMIT, max_fields=FIELDS_LIMIT) as form:
        for sent_name, value in form.multi_items():
            name = PLURALS.get(sent_name, sent_name)
            if isinstance(value, UploadFile) and name != "image":
                raise FieldInvalid(name, "text was expected, not a file")
            if isinstance(value, UploadFile):
                images.append(await value.read())
            elif name == "image":
                images.append(image_from_uri(value, f"image[{len(images)}]"))
            else:
                fields.setdefault(name, []).append(value)
    return Upload(tuple(images), {name: tuple(values) for name, values in fields.items()})


def _upload_from_json(body: bytes) -> Upload:
    content = parse_json(body)
    if not isinstance(content, dict):
        raise JsonInvalid("an object was expected")
    images: list[bytes] = []
    fields: dict[str, tuple[Value, ...]] = {}
    objects: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for sent_name, value in content.items():
        name = PLURALS.get(sent_name, str(sent_name))
        if name != "image" and _is_list_of_objects(value):
            objects[name] = objects.get(name, ()) + tuple(value)
            continue
        values = _values(name, value)
        if name == "image":
            images += [image_from_uri(item, f"image[{index}]") for index, item in enumerate(values)]
        elif values:
            fields[name] = fields.get(name, ()) + values
    return Upload(tuple(images), fields, objects)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _values(name: str, value: Any) -> tuple[Value, ...]:
    """A field's values from JSON: a list, one value, or null for none."""
    values = value if isinstance(value, list) else [value] if value is not None else []
    for item in values:
        if not isinstance(item, str | int | float | bool):
            raise FieldInvalid(name, PLAIN)
    return tuple(values)


def image_from_uri(value: Value, field: str) -> bytes:
    """The bytes in a data URI. Raises `FieldInvalid`."""
    match = DATA_URI.match(value) if isinstance(value, str) else None
    if match is None or not isinstance(value, str):
        raise FieldInvalid(field, "an image is a file part, or a data URI (data:...;base64,...)")
    try:
        return base64.b64decode(value[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldInvalid(field, f"the data URI is not base64: {error}") from error


async def parse_aside(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    """``parse(body)``; on a thread where it is large, so that other requests go on meanwhile."""

    def parse_uncounted() -> Parsed:
        with uncounted():
            return parse(body)

    return await run_in_threadpool(parse_uncounted) if len(body) > SMALL else parse(body)


def parse_json(body: bytes) -> Any:
    """Strict JSON in UTF-8: no NaN, no infinity (not even as a number too large to hold), and,
    because no database could store them, no NUL and no half of a surrogate pair.

    Raises `JsonInvalid`.
    """

    def refuse(constant: str) -> Never:
        raise JsonInvalid(f"{constant} is not a JSON number")

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else refuse(number[:40])

    try:
        text = body.decode("utf-8-sig")
        content = json.loads(text, parse_constant=refuse, parse_float=finite)
        if SURROGATE.search(body):
            json.dumps(content, ensure_ascii=False).encode()
        if NUL_ESCAPED in body:  # or a backslash that is meant, and five characters
            _refuse_nul(content)
    except json.JSONDecodeError as error:
        raise JsonInvalid(f"{error.msg} at character {error.pos}") from error
    except UnicodeError as error:
        raise JsonInvalid("its text is not Unicode") from error
    except ValueError as error:
        raise JsonInvalid(str(error)) from error
    except RecursionError as error:
        raise JsonInvalid("it is nested too deeply") from error
    return content


def _refuse_nul(content: Any) -> None:
    """Looks at every text, names of fields too. Raises `JsonInvalid`."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, str) and "\0" in part:
            raise JsonInvalid(WITHOUT_NUL)


def version_of(reference: Value | None) -> int | None:
    """A version's number; None for the live one. Raises `FieldInvalid`, `AdapterMissing`."""
    text = "live" if reference is None else str(reference).strip()
    if text == "live":
        return None
    if not (text.isascii() and text.isdigit()):
        raise FieldInvalid("adapter", f"a version or 'live' was expected, not {text[:80]!r}")
    if len(text) > VERSION_DIGITS:
        raise AdapterMissing(text[:80])
    return int(text)
