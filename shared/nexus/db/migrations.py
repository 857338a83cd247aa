"""What revision the code wants, what the database has, and how to get from one to the other."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from nexus.log import get_logger

ALEMBIC_INI = Path(__file__).parents[3] / "db" / "alembic.ini"

log = get_logger("nexus.migrator")


def alembic_config(database_url: URL | None = None, wait_seconds: float | None = None) -> Config:
    """Alembic's configuration. Without arguments `db/env.py` takes both values from the settings."""
    config = Config(ALEMBIC_INI)
    config.attributes["database_url"] = database_url
    config.attributes["wait_seconds"] = wait_seconds
    return config


def revision_scripts() -> ScriptDirectory:
    """The revisions this code knows, one chain from base to head."""
    return ScriptDirectory.from_config(alembic_config())


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at; None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


class Work:
    """What alembic is asked to do, in a form that can be taken up again after an attempt that failed.

    Asked anew, alembic would count a relative target (`-1`) from wherever the first attempt got to.
    """

    def __init__(self) -> None:
        self._steps: list[Any] | None = None
        self._done = 0
        self._since = time.monotonic()

    def remaining(self, find: Callable[..., Iterable[Any]]) -> Callable[..., list[Any]]:
        """Alembic's `fn`, made of its own: the revisions that are still to be applied."""

        def steps(heads: Any, context: MigrationContext) -> list[Any]:
            if self._steps is None:
                self._steps = list(find(heads, context))
            self._since = time.monotonic()
            return self._steps[self._done :]

        return steps

    def applied(self, *, step: Any, **_: Any) -> None:
        """Alembic's `on_version_apply`: counts, and says what is done and what it took, waits included."""
        self._done += 1
        verb = "upgraded" if step.is_upgrade else "downgraded"
        seconds = round(time.monotonic() - self._since, 3)
        log.info(verb, revision=", ".join(step.up_revision_ids) or "base", seconds=seconds)
        self._since = time.monotonic()
