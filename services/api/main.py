"""API entrypoint: `gunicorn -c services/api/gunicorn.conf.py services.api.main:app`."""

from nexus.api.app import create_app
from nexus.api.startup import require_schema
from nexus.config import settings_or_exit
from nexus.log import configure_logging

settings = settings_or_exit()
configure_logging(settings)
require_schema(settings)
app = create_app(settings)
