"""Takes the images of control sets in, to be classified or asked about."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.requests import Request

from app.control_questions import Asked, add_questions, check_answerable, read_questions
from app.errors import FieldInvalid
from app.image_keeping import write_with_images
from app.schemas.control_sets import ControlImagesAdded, ControlSetDetail
from app.services import Services
from app.uploads import read_upload
from registry.control_sets import (
    NewControlImage,
    add_control_images,
    control_counts,
    get_control_set,
    list_control_sets,
)

IMAGES_LIMIT = 1000
FIELDS = frozenset({"label", "question", "answer", "option"})
OBJECTS = frozenset({"question"})


@dataclass(frozen=True)
class ControlUpload:
    """Images of one request and the label of each, if they have labels; or the questions that are
    asked about them, and then they are not classified."""

    images: tuple[bytes, ...]
    labels: tuple[str | None, ...]
    asked: tuple[Asked, ...] = ()


async def read_control_upload(request: Request) -> ControlUpload:
    """The images in a request's body. Raises what `read_upload` and `read_questions` raise."""
    upload = await read_upload(request, FIELDS, images_limit=IMAGES_LIMIT, may_be_objects=OBJECTS)
    if not upload.images:
        raise FieldInvalid("image", "at least one image is needed")
    asked = read_questions(upload)
    return ControlUpload(upload.images, upload.for_each("label", len(upload.images)), asked)


def add_images(services: Services, name: str, upload: ControlUpload) -> ControlImagesAdded:
    """Adds all images, or all questions about them, or none; they were checked before.

    Raises whatever `check_answerable`, `add_control_images` and `add_control_questions` raise.
    """
    if upload.asked:
        check_answerable(services, upload.asked)

    def write(session: Session, digests: list[str]) -> ControlImagesAdded:
        if upload.asked:
            count, added = len(upload.asked), add_questions(session, name, upload.asked, digests)
        else:
            new = [
                NewControlImage(image_sha256=digest, label=label)
                for digest, label in zip(digests, upload.labels, strict=True)
            ]
            count, added = len(new), add_control_images(session, name, new)
        return ControlImagesAdded(
            added=added, duplicates=count - added, control_set=describe(session, name)
        )

    return write_with_images(services.engine, services.store, upload.images, write)


def describe(session: Session, name: str) -> ControlSetDetail:
    """One control set with its counts. Raises `ControlSetMissing`."""
    row = get_control_set(session, name)
    return ControlSetDetail.of(row, control_counts(session, [name])[name])


def describe_all(session: Session) -> list[ControlSetDetail]:
    """Every control set with its counts, by name."""
    rows = list_control_sets(session)
    counts = control_counts(session, [row.name for row in rows])
    return [ControlSetDetail.of(row, counts[row.name]) for row in rows]
