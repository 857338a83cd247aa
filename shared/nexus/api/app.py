"""The composition root of the API: every client it uses is made here, once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from nexus import __version__
from nexus.api import libraries, me, media, probes
from nexus.api.docs import ASSETS, PAGES, create_fastapi, describe
from nexus.api.errors import add_error_handlers
from nexus.api.middleware import GuardMiddleware, RequestMiddleware
from nexus.auth import create_verifier
from nexus.config import Settings
from nexus.db.database import Database
from nexus.db.migrations import head_revision
from nexus.health import postgres_probe, redis_probe

PROBE_PATHS = frozenset({"/health", "/ready"})


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.database.close()


def create_app(settings: Settings) -> FastAPI:
    """The API. Connects to nobody yet: a peer that is away is told by /ready, not by a process that dies."""
    published = not settings.is_public_deployment
    app = create_fastapi(
        published=published,
        title="Nexus",
        version=__version__,
        lifespan=_lifespan,
        # A path with a slash too many is a path that does not exist, not a detour.
        redirect_slashes=False,
    )
    timeout = settings.READY_TIMEOUT_SECONDS
    app.state.database = Database(settings.database_url, settings.API_POOL_SIZE)
    app.state.probes = [
        postgres_probe(settings.database_url, head_revision(), timeout),
        redis_probe(settings.REDIS_URL.get_secret_value(), timeout),
    ]
    add_error_handlers(app)
    # Routes are tried in this order: the most frequent and the fewest first.
    for router in (me.router, media.router, libraries.router, probes.router):
        app.include_router(router)
    describe(app, PROBE_PATHS)
    # The last one added is the outermost.
    app.add_middleware(
        GuardMiddleware,
        secret=settings.NEXUS_INTERNAL_SECRET.get_secret_value(),
        verifier=create_verifier(settings),
        public_paths=PROBE_PATHS | (PAGES if published else frozenset()),
        public_folder=ASSETS if published else None,
    )
    app.add_middleware(
        RequestMiddleware, timeout=settings.API_REQUEST_TIMEOUT_SECONDS, quiet_paths=PROBE_PATHS
    )
    return app
