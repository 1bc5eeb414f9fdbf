"""`/`: where to go from here."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)


@router.get("/")
def index() -> dict[str, object]:
    """The main paths."""
    return {
        "service": "Emend",
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "ready": "/health/ready",
        "paths": {
            "classify": "POST /classify",
            "ask": "POST /vqa",
            "chat": "POST /v1/chat/completions",
            "correct": "POST /corrections",
            "follow": "GET /edit-jobs/{id}/events",
            "inspect": "GET /adapters/live",
            "roll_back": "POST /promotions",
        },
    }
