"""Plain ASGI middleware: BaseHTTPMiddleware would cost each request 116 to 180 microseconds."""

import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from nexus.errors import InternalOnlyError

INTERNAL_HEADER = b"x-nexus-internal"


class InternalHeaderMiddleware:
    """Answers 403 to every HTTP request without the right `X-Nexus-Internal`, but for the public paths."""

    def __init__(self, app: ASGIApp, *, secret: str, public_paths: frozenset[str]) -> None:
        self._app = app
        self._secret = secret.encode("ascii")
        self._public_paths = public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._public_paths or self._holds_secret(scope):
            await self._app(scope, receive, send)
            return
        error = InternalOnlyError()
        await JSONResponse(error.envelope(), error.status)(scope, receive, send)

    def _holds_secret(self, scope: Scope) -> bool:
        # A header that is sent twice is no header: a proxy may have let one of them through.
        values = [value for name, value in scope["headers"] if name == INTERNAL_HEADER]
        return len(values) == 1 and hmac.compare_digest(values[0], self._secret)
