"""The composition root of the API: every client it uses is made here, once."""

from fastapi import FastAPI

from nexus import __version__
from nexus.api import probes
from nexus.api.errors import add_error_handlers
from nexus.api.middleware import InternalHeaderMiddleware
from nexus.config import Settings
from nexus.db.migrations import head_revision
from nexus.health import postgres_probe, redis_probe

PROBE_PATHS = frozenset({"/health", "/ready"})
OPENAPI_PATH = "/openapi.json"


def create_app(settings: Settings) -> FastAPI:
    """The API. Connects to nobody yet: a peer that is away is told by /ready, not by a process that dies."""
    published = not settings.is_public_deployment
    app = FastAPI(
        title="Nexus",
        version=__version__,
        openapi_url=OPENAPI_PATH if published else None,
        # FastAPI's pages fetch their scripts from a CDN; Nexus does not depend on one.
        docs_url=None,
        redoc_url=None,
        # A path with a slash too many is a path that does not exist, not a detour.
        redirect_slashes=False,
    )
    timeout = settings.READY_TIMEOUT_SECONDS
    app.state.probes = [
        postgres_probe(settings.database_url, head_revision(), timeout),
        redis_probe(settings.REDIS_URL.get_secret_value(), timeout),
    ]
    add_error_handlers(app)
    app.include_router(probes.router)
    app.add_middleware(
        InternalHeaderMiddleware,
        secret=settings.NEXUS_INTERNAL_SECRET.get_secret_value(),
        public_paths=PROBE_PATHS | ({OPENAPI_PATH} if published else frozenset()),
    )
    return app
