"""What routes ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Path, Query, Request

from app.errors import FieldInvalid
from app.services import Services
from app.uploads import WITHOUT_NUL


async def _services(request: Request) -> Services:
    """Async, because FastAPI takes a thread for whatever is not."""
    services: Services = request.app.state.services
    return services


async def refuse_nul(request: Request) -> None:
    """No database can hold NUL, so nothing has a name with it: a path with one is not found, and a
    query with one is refused. Raises `HTTPException`, `FieldInvalid`."""
    if any("\0" in str(value) for value in request.path_params.values()):
        raise HTTPException(404)
    for name, value in request.query_params.multi_items():
        if "\0" in name + value:
            raise FieldInvalid(name, WITHOUT_NUL)


ServicesOf = Annotated[Services, Depends(_services)]
Cursor = Annotated[str | None, Query(max_length=100, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500, description="rows of a page")]
Reference = Annotated[str, Path(description="a version, or `live`", examples=["live"])]
