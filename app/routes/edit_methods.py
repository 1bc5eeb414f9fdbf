"""`/edit-methods`: what a config may hold."""

from __future__ import annotations

from fastapi import APIRouter

from app.dependencies import ServicesOf
from app.schemas.edit_jobs import EditMethodDetail, EditMethodList
from registry.methods import list_methods
from registry.session import reading

router = APIRouter(tags=["edit jobs"])


@router.get("/edit-methods")
def edit_methods(services: ServicesOf) -> EditMethodList:
    """The methods that workers have announced, each with the JSON schema of its config."""
    with reading(services.engine) as session:
        rows = list_methods(session)
    return EditMethodList(
        edit_methods=[
            EditMethodDetail(name=row.name, config_schema=row.config_schema) for row in rows
        ]
    )
