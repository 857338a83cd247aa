"""`celery -A services.worker.main worker` and `from services.worker import celery_app` give the same app."""

from services.worker.main import app as celery_app

__all__ = ["celery_app"]
