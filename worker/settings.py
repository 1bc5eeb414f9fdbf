"""What the operator may decide about the worker, read from the environment (prefix `EMEND_`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.deployment import Deployment


class Settings(Deployment):
    """Times are seconds."""

    # Accuracy points that the labelled images of a control set may lose, and percent of answers
    # that may change on the others, where the control set names no budget of its own.
    forgetting_budget: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.5
    flip_budget: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 8.0
    # A running job whose heartbeat is older than the lease belongs to nobody.
    lease: Annotated[float, Field(gt=0, le=3600)] = 10.0
    heartbeat: Annotated[float, Field(gt=0, le=600)] = 2.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
