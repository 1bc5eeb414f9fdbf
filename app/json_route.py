"""Routes that read JSON strictly: no NaN or infinity, no other media type taken for JSON, and
nothing larger than any of them can need."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.body_limit import receive_within
from app.errors import UnsupportedMediaType
from app.uploads import JSON, parse_aside, parse_json
from registry.deployment import MEBIBYTE

LIMIT = 8 * MEBIBYTE  # no images in it: the largest label set fits
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictJsonRequest(Request):
    """A request whose JSON is parsed by `parse_json`."""

    async def json(self) -> Any:
        """The body. Raises `JsonInvalid`."""
        if not hasattr(self, "_json"):
            self._json = await parse_aside(parse_json, await self.body())
        return self._json


class StrictJsonRoute(APIRoute):
    """Checks media type and size where a body is declared, and reads it as `StrictJsonRequest`."""

    def get_route_handler(self) -> Handler:
        """The route's handler with the stricter request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            if self.body_field is None:
                return await handle(request)
            receive = receive_within(LIMIT, request.scope, request.receive)
            strict = StrictJsonRequest(request.scope, receive)
            if await strict.body():
                content_type = strict.headers.get("content-type")
                if (content_type or "").partition(";")[0].strip().lower() != JSON:
                    raise UnsupportedMediaType(content_type, (JSON,))
                await strict.json()  # here, where FastAPI does not turn its errors into a 400
            return await handle(strict)

        return handle_strictly
