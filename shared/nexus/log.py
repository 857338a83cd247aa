"""One line format for the three processes: text for people in local and test, JSON elsewhere."""

import logging
import logging.config
from typing import Any

import structlog

from nexus.config import Settings

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


def logging_config(settings: Settings) -> dict[str, Any]:
    """The `logging.config.dictConfig` that sends every logger, libraries' included, through one formatter."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.logs_json
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False)
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "nexus": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "nexus"}},
        "root": {"level": settings.LOG_LEVEL, "handlers": ["stderr"]},
        # Their own handlers would print every line a second time, in another format.
        "loggers": {
            name: {"level": "INFO", "handlers": [], "propagate": True}
            for name in ("gunicorn.error", "uvicorn", "uvicorn.error")
        }
        | {name: {"level": "WARNING"} for name in ("alembic", "uvicorn.access")},
    }


def configure_logging(settings: Settings) -> None:
    """Set up logging for this process. Call once, first thing in a launcher."""
    logging.config.dictConfig(logging_config(settings))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose calls take an event and keyword fields: `log.info("migrated", revision="0002")`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
