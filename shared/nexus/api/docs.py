"""The description of the API, and the pages that show it without the internet."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

OPENAPI_PATH = "/openapi.json"
#: The pages, and below the last one what they load.
PAGES = frozenset({OPENAPI_PATH, "/docs", "/redoc"})
ASSETS = "/docs/"

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Of the OIDC provider; in local and test: docker compose exec api nexus token",
    },
    "internal": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Nexus-Internal",
        "description": "NEXUS_INTERNAL_SECRET; in local: local-dev-secret",
    },
}


def create_fastapi(*, published: bool, **options: Any) -> FastAPI:
    """An application whose pages exist only where they are `published`, and are served by us alone."""
    if not published:
        return FastAPI(openapi_url=None, docs_url=None, redoc_url=None, **options)
    app: FastAPI = FastAPIOffline(
        openapi_url=OPENAPI_PATH,
        static_url=ASSETS + "assets",
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
        **options,
    )
    return app


def describe(app: FastAPI, public_paths: frozenset[str]) -> None:
    """Have /openapi.json tell the truth about who may call what, and about malformed requests."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            components = schema.setdefault("components", {})
            components["securitySchemes"] = _SCHEMES
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    operation["security"] = [] if path in public_paths else [{"bearer": [], "internal": []}]
                    # FastAPI's own answer to a malformed request, which is 400 here.
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                components["schemas"].pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
