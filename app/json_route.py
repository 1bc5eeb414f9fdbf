"""Routes that read JSON strictly: no NaN or infinity, and no other media type taken for JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.errors import UnsupportedMediaType
from app.uploads import JSON, parse_json

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictJsonRequest(Request):
    """A request whose JSON is parsed by `parse_json`."""

    async def json(self) -> Any:
        """The body. Raises `JsonInvalid`."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class StrictJsonRoute(APIRoute):
    """Checks the media type where a body is declared, and reads it as `StrictJsonRequest`."""

    def get_route_handler(self) -> Handler:
        """The route's handler with the stricter request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict = StrictJsonRequest(request.scope, request.receive)
            if self.body_field is not None and await strict.body():
                content_type = strict.headers.get("content-type")
                if (content_type or "").partition(";")[0].strip().lower() != JSON:
                    raise UnsupportedMediaType(content_type, (JSON,))
                await strict.json()  # here, where FastAPI does not turn its errors into a 400
            return await handle(strict)

        return handle_strictly
