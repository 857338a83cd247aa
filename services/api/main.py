"""API entrypoint: `gunicorn -c services/api/gunicorn.conf.py services.api.main:app`."""

from nexus.api.app import create_app
from nexus.config import settings_or_exit
from nexus.log import configure_logging
from nexus.startup import require_peers

settings = settings_or_exit()
configure_logging(settings)
require_peers(settings)
app = create_app(settings)
