"""Request id, access log and internal header, each as a BaseHTTPMiddleware."""

import logging
import secrets
import time
from uuid import uuid4

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from nexus.config import settings

logger = logging.getLogger("reference.access")


class RequestLogMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        request_id = request.headers.get("X-Request-Id") or uuid4().hex
        start = time.perf_counter()
        response = await call_next(request)
        milliseconds = (time.perf_counter() - start) * 1000
        response.headers["X-Request-Id"] = request_id
        logger.info(
            "%s %s %d %.1f ms request_id=%s",
            *(request.method, request.url.path, response.status_code, milliseconds, request_id),
        )
        return response


class InternalHeaderMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        given = request.headers.get("X-Nexus-Internal", "").encode()
        wanted = settings.NEXUS_INTERNAL_SECRET.get_secret_value().encode()
        if request.url.path != "/health" and not secrets.compare_digest(given, wanted):
            return JSONResponse({"detail": "Internal only"}, status_code=403)
        return await call_next(request)
