"""What the operator may decide about the worker, read from the environment (prefix `EMEND_`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.session import default_url

MEBIBYTE = 1024 * 1024
EXBIBYTE = MEBIBYTE**3
TEN_YEARS_HOURS = 10 * 365 * 24


class Settings(BaseSettings):
    """Sizes are bytes, `keep_predictions` hours; every other time is seconds."""

    model_config = SettingsConfigDict(
        env_prefix="EMEND_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    encoder: str = "bundled"
    pretrained: str | None = None
    device: str = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    data: Path = Path("emend-data")
    database_url: str | None = None
    broker_url: str | None = None
    artifacts: str | None = None
    # Accuracy points that the labelled images of a control set may lose, and percent of answers
    # that may change on the others, where the control set names no budget of its own.
    forgetting_budget: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.5
    flip_budget: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 8.0
    keep_predictions: Annotated[float, Field(ge=0, le=TEN_YEARS_HOURS, allow_inf_nan=False)] = 24.0
    keep_bytes: Annotated[int, Field(ge=0, le=EXBIBYTE)] = 1024 * MEBIBYTE
    threads: Annotated[int, Field(ge=1)] | None = None
    # A running job whose heartbeat is older than the lease belongs to nobody.
    lease: Annotated[float, Field(gt=0, le=3600)] = 10.0
    heartbeat: Annotated[float, Field(gt=0, le=600)] = 2.0
    max_attempts: Annotated[int, Field(ge=1)] = 3

    @property
    def database_location(self) -> str:
        """The database's URL; a SQLite file in the data folder unless decided otherwise."""
        return self.database_url or default_url(self.data)

    @property
    def artifacts_location(self) -> str:
        """The folder or fsspec URL where files live."""
        return self.artifacts or str(self.data / "artifacts")

    @property
    def torch_threads(self) -> int:
        """Threads of one forward or backward pass; every core unless decided otherwise."""
        return self.threads or os.cpu_count() or 1
