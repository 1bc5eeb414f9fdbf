"""What the operator may decide about the API, read from the environment (prefix ``EMEND_``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from registry.deployment import MEBIBYTE, Deployment

DAY_SECONDS = 24 * 3600
YEAR_SECONDS = 365 * DAY_SECONDS


class Settings(Deployment):
    """Sizes are bytes, ``edit_wait`` and ``ready_grace`` seconds."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    edit_batch: Annotated[int, Field(ge=1)] = 20
    edit_wait: Annotated[float, Field(ge=0, le=YEAR_SECONDS, allow_inf_nan=False)] = 5.0
    max_image_bytes: Annotated[int, Field(ge=1)] = 20 * MEBIBYTE
    max_image_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    max_request_bytes: Annotated[int, Field(ge=1)] = 256 * MEBIBYTE
    vlm_load: Literal["start", "lazy"] = "start"
    vlm_batch: Annotated[int, Field(ge=1, le=1024)] = 32  # questions answered together
    versions_ready: Annotated[int, Field(ge=1)] = 3
    # A replica that cannot serve the promoted version counts as ready for so long.
    ready_grace: Annotated[float, Field(ge=0, le=DAY_SECONDS, allow_inf_nan=False)] = 30.0
