"""Worker entrypoint: `celery -A services.worker.main worker --loglevel=info`."""

from nexus.config import settings_or_exit
from nexus.worker import create_celery

app = create_celery(settings_or_exit())
