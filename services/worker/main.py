"""Worker entrypoint: `celery -A services.worker.main worker --loglevel=info`."""

from nexus.config import settings_or_exit
from nexus.log import configure_logging
from nexus.startup import require_peers
from nexus.worker import create_celery

settings = settings_or_exit()
configure_logging(settings)
require_peers(settings)
app = create_celery(settings)
