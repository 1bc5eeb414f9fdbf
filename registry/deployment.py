"""What every process of one deployment must agree on, read from the environment (prefix `EMEND_`).

The two processes inherit it and add what is theirs alone; the operator's commands use it as it is.
Passwords come from files, so that neither an environment nor a list of processes shows them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlunsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from registry.broker import read_url
from registry.errors import DatabaseUnavailable
from registry.secrets import read_secret
from registry.session import UNREADABLE_URL, default_url

PREFIX = "EMEND_"
MEBIBYTE = 1024 * 1024
EXBIBYTE = MEBIBYTE**3
TEN_YEARS_HOURS = 10 * 365 * 24
BUNDLED = "bundled"
NO_VLM = "none"
Precision = Literal["fp32", "bf16", "fp16"]


class Deployment(BaseSettings):
    """Sizes are bytes, `keep_predictions` hours."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    encoder: str = BUNDLED
    pretrained: str | None = None
    device: str = "cpu"
    precision: Precision = "fp32"
    vlm: str | None = None
    vlm_precision: Precision | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    data: Path = Path("emend-data")
    database_url: str | None = None
    database_password_file: Path | None = None
    broker_url: str | None = None
    broker_password_file: Path | None = None
    artifacts: str | None = None
    keep_predictions: Annotated[float, Field(ge=0, le=TEN_YEARS_HOURS, allow_inf_nan=False)] = 24.0
    keep_bytes: Annotated[int, Field(ge=0, le=EXBIBYTE)] = 1024 * MEBIBYTE

    @model_validator(mode="after")
    def _passwords_have_a_url(self) -> Self:
        for url, file in (
            ("database_url", "database_password_file"),
            ("broker_url", "broker_password_file"),
        ):
            if getattr(self, file) is not None and getattr(self, url) is None:
                raise ValueError(
                    f"{variable(file)} is the password of {variable(url)}, which is not set"
                )
        return self

    @property
    def database_location(self) -> str:
        """The database's URL, password included; a SQLite file in the data folder unless decided
        otherwise. Raises SecretMissing, SecretWeak, DatabaseUnavailable."""
        if self.database_url is None:
            return default_url(self.data)
        if self.database_password_file is None:
            return self.database_url
        password = read_secret(self.database_password_file)
        try:
            url = make_url(self.database_url).set(password=password)
        except (ArgumentError, ValueError) as problem:
            raise DatabaseUnavailable("given by URL", UNREADABLE_URL) from problem
        return url.render_as_string(hide_password=False)

    @property
    def broker_location(self) -> str | None:
        """The broker's URL, password included; None for the embedded one.

        Raises SecretMissing, SecretWeak; BrokerInvalid before the password is in it.
        """
        if self.broker_url is None or self.broker_password_file is None:
            return self.broker_url
        parts = read_url(self.broker_url)
        password = quote(read_secret(self.broker_password_file), safe="")
        user, _, host = parts.netloc.rpartition("@")
        netloc = f"{user.partition(':')[0]}:{password}@{host}"
        return urlunsplit(parts._replace(netloc=netloc))

    @property
    def artifacts_location(self) -> str:
        """The folder or fsspec URL where files live."""
        return self.artifacts or str(self.data / "artifacts")

    @property
    def vlm_source(self) -> str | None:
        """The vision-language model over the encoder: `bundled` or a folder; None for none. The
        bundled encoder has the bundled one unless decided otherwise, any other encoder has none."""
        if self.vlm is None:
            return BUNDLED if self.encoder == BUNDLED else None
        return None if self.vlm == NO_VLM else self.vlm

    @property
    def vlm_decoder_precision(self) -> Precision:
        """Of the VLM's own weights; the encoder's unless decided otherwise."""
        return self.vlm_precision or self.precision

    @property
    def torch_threads(self) -> int:
        """Threads of one forward or backward pass; every core unless decided otherwise."""
        return self.threads or os.cpu_count() or 1


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def problems_of(error: ValidationError) -> tuple[tuple[str, str], ...]:
    """Each wrong variable and what is wrong with it. One that concerns two names them itself."""
    return tuple(
        (variable(".".join(map(str, each["loc"]))) if each["loc"] else "settings", each["msg"])
        for each in error.errors()
    )
