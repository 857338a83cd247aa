"""The composition root of the API: every client it uses is made here, once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from fastapi import FastAPI

from nexus import __version__
from nexus.api import libraries, me, media, metrics, probes
from nexus.api.docs import ASSETS, PAGES, create_fastapi, describe
from nexus.api.errors import add_error_handlers
from nexus.api.middleware import GuardMiddleware, Paths, RequestMiddleware
from nexus.auth import create_verifier
from nexus.config import Settings
from nexus.db.database import Database
from nexus.db.revisions import head_revision
from nexus.health import postgres_probe, redis_probe, workers_probe

PROBE_PATHS = frozenset({"/health", "/ready"})
#: For the operator's machines, which are no users: the internal header is enough.
MACHINE_PATHS = frozenset({metrics.METRICS_PATH})


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    async with metrics.noting(state.requests, state.database) if state.counting else nullcontext():
        yield
    app.state.database.close()


def create_app(settings: Settings, *, counting: bool = True) -> FastAPI:
    """The API. Connects to nobody yet: a peer that is away is told by /ready, not by a process that dies.

    Args:
        settings: of this process.
        counting: whether requests are counted; not, for the benchmark that shows what that costs.
    """
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
    wanted = head_revision()
    app.state.probes = [
        postgres_probe(settings.database_url, wanted, timeout),
        redis_probe(settings.REDIS_URL.get_secret_value(), timeout),
    ]
    workers = workers_probe(settings.CELERY_BROKER_URL.get_secret_value(), timeout)
    app.state.counting, app.state.requests = counting, metrics.Requests()
    app.state.scraper = metrics.Scraper(
        app.state.requests, app.state.database, [*app.state.probes, workers], wanted
    )
    add_error_handlers(app)
    # Routes are tried in this order: the most frequent and the fewest first.
    for router in (me.router, media.router, libraries.router, probes.router, metrics.router):
        app.include_router(router)
    describe(app, PROBE_PATHS)
    # The last one added is the outermost.
    app.add_middleware(
        GuardMiddleware,
        secret=settings.NEXUS_INTERNAL_SECRET.get_secret_value(),
        verifier=create_verifier(settings),
        paths=Paths(
            public=PROBE_PATHS | (PAGES if published else frozenset()),
            public_folder=ASSETS if published else None,
            machines=MACHINE_PATHS,
        ),
    )
    app.add_middleware(
        RequestMiddleware,
        timeout=settings.API_REQUEST_TIMEOUT_SECONDS,
        quiet_paths=PROBE_PATHS | MACHINE_PATHS,
        requests=app.state.requests if counting else None,
    )
    return app
