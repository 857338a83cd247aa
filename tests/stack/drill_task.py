"""The one task of the drills, run by the spare worker in the image that ships.

Its marks are rows in Postgres, since Redis is what the drills take away.
"""

import os
import time

import psycopg
from celery import shared_task

PAUSE = 0.05


@shared_task(name="drill.work")  # type: ignore[untyped-decorator]  # celery has no types
def work(name: str, held: bool) -> None:
    """Says that it starts, waits (when held) until somebody releases it, says that it ends."""
    with psycopg.connect(os.environ["DRILL_MARKS"], autocommit=True) as connection:
        mark = "INSERT INTO marks (name, what, pid) VALUES (%s, %s, %s)"
        connection.execute(mark, (name, "start", os.getpid()))
        while (
            held and not connection.execute("SELECT name FROM released WHERE name = %s", (name,)).fetchone()
        ):
            time.sleep(PAUSE)
        connection.execute(mark, (name, "end", os.getpid()))
