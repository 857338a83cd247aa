"""`make bench-migration ROWS=1000000`: what revision 0002 costs, up and down, against the least it can cost.

The least is a VACUUM FULL of the same table: every row and the index written anew, nothing else. Both begin
with a fresh copy of one filled database and come in turn, so that a change of the machine's mood meets both.
It runs on a copy of this tree, as a project of its own of which only Postgres is started. A target that is
missed is a row that says so, not an exit code: docs/benchmarks.md tells why.
"""

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, NamedTuple

import psycopg
import structlog
from alembic import command

from bench.project import end_on_signals, say, temporary_project
from bench.report import Row, machine, publish
from bench.s0 import MIXES, Server
from nexus.db.migrations import alembic_config

#: Of everything that is measured, the median counts.
ROUNDS = 5
#: At most so many times what the VACUUM FULL takes.
UPGRADE, UPGRADE_WAL, DOWNGRADE = 1.8, 1.2, 2
#: Seconds between two reads of whoever looks how long the table is closed.
READ_PAUSE = 0.002
#: Seconds from which on a step is worth telling.
TOLD = 0.01

#: Before every measurement. All pages are read, so that none begins with a table that is farther away.
SETTLE = ("VACUUM (ANALYZE, DISABLE_PAGE_SKIPPING) media", "CHECKPOINT")


class Figures(NamedTuple):
    seconds: float
    #: The longest that somebody waited who read one row again and again.
    closed: float
    #: Bytes of WAL; of media with its indexes, before and after.
    wal: float
    before: float
    after: float
    #: Dead rows left in media, counted by pgstattuple.
    dead: float


def median(figures: Iterable[Figures]) -> Figures:
    """Of each figure."""
    return Figures(*map(statistics.median, zip(*figures, strict=True)))


class Steps:
    """Takes the migrator's lines about its steps out of the log, and keeps how long each step took.

    What else it logs, such as a wait for a lock, would spoil a figure and is shown.
    """

    def __init__(self) -> None:
        self._of = ""
        self._seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        show = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False)
        structlog.configure([self._take, show], logger_factory=structlog.WriteLoggerFactory(sys.stderr))

    def belong_to(self, migration: str) -> None:
        """Those to come."""
        self._of = migration

    def _take(self, _: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event["event"] == "step done":
            self._seconds[self._of][event["name"]].append(event["seconds"])
        if event["event"] in {"step", "step done", "upgraded", "downgraded"}:
            raise structlog.DropEvent
        return event

    def tell(self, migration: str) -> None:
        """Say where the time of a migration goes: the medians of its longer steps, in their order."""
        medians = {name: statistics.median(seconds) for name, seconds in self._seconds[migration].items()}
        told = [f"  {seconds:6.3f} s  {name}" for name, seconds in medians.items() if seconds >= TOLD]
        say("\n".join([f"{migration}, its steps of {TOLD:g} s and more:", *told]))


def _one(session: psycopg.Connection, query: str) -> tuple[Any, ...]:
    row = session.execute(query.encode()).fetchone()
    if row is None:
        raise SystemExit(f"nexus: nothing found by {query}")
    return row


def _longest_read(session: psycopg.Connection, key: object, ended: Event) -> float:
    longest = 0.0
    while not ended.wait(READ_PAUSE):
        since = time.perf_counter()
        session.execute("SELECT title FROM media WHERE id = %s", [key])
        longest = max(longest, time.perf_counter() - since)
    return longest


def measure(server: Server, database: str, work: Callable[[], object]) -> Figures:
    """What some work on media costs, and whoever reads meanwhile."""
    with (
        server.session(database) as looking,
        server.session(database) as reading,
        ThreadPoolExecutor(1) as pool,
    ):
        for statement in SETTLE:
            looking.execute(statement)
        (key,) = _one(looking, "SELECT id FROM media LIMIT 1")
        state = "SELECT pg_current_wal_insert_lsn() - '0/0', pg_total_relation_size('media')"
        wal_before, before = _one(looking, state)
        ended = Event()
        longest = pool.submit(_longest_read, reading, key, ended)
        since = time.perf_counter()
        try:
            work()
            seconds = time.perf_counter() - since
        finally:
            ended.set()
        closed = longest.result()
        wal, after = _one(looking, state)
        (dead,) = _one(looking, "SELECT dead_tuple_count FROM pgstattuple('media')")
    return Figures(seconds, closed, float(wal - wal_before), before, after, dead)


class Round(NamedTuple):
    vacuum: Figures
    upgrade: Figures
    downgrade: Figures


def one_round(server: Server, mix: str, steps: Steps) -> Round:
    with server.clone(mix) as database, server.session(database) as session:
        vacuum = measure(server, database, lambda: session.execute("VACUUM FULL media"))
    with server.clone(mix) as database:
        config = alembic_config(server.url(database), wait_seconds=10)
        steps.belong_to(f"{mix}: upgrade")
        upgrade = measure(server, database, lambda: command.upgrade(config, "0002"))
        steps.belong_to(f"{mix}: downgrade")
        downgrade = measure(server, database, lambda: command.downgrade(config, "0001"))
    found = Round(vacuum, upgrade, downgrade)
    told = ", ".join(f"{name} {figures.seconds:.2f} s" for name, figures in found._asdict().items())
    say(f"{mix}: {told}")
    return found


def absolute(title: str, figures: Figures) -> list[Row]:
    return [
        Row(title, figures.seconds, "s"),
        Row(f"{title}: media closed to a reader", figures.closed, "s"),
        Row(f"{title}: WAL", figures.wal / 1e6, "MB"),
        Row(f"{title}: size of media before", figures.before / 1e6, "MB"),
        Row(f"{title}: size of media after", figures.after / 1e6, "MB"),
    ]


def relative(title: str, figures: Figures, least: Figures, times: float, wal: float | None) -> list[Row]:
    against = f"{title} against VACUUM FULL"
    return [
        Row(f"{against}: time", figures.seconds / least.seconds, "times", times),
        Row(f"{against}: WAL", figures.wal / least.wal, "times", wal),
        Row(f"{title}: dead rows left in media", figures.dead, "rows", 0),
    ]


def rows_of(mix: str, rounds: list[Round]) -> list[Row]:
    vacuum, upgrade, downgrade = (median(figures) for figures in zip(*rounds, strict=True))
    return [
        *absolute(f"{mix}: VACUUM FULL", vacuum),
        *absolute(f"{mix}: upgrade", upgrade),
        *relative(f"{mix}: upgrade", upgrade, vacuum, UPGRADE, UPGRADE_WAL),
        *absolute(f"{mix}: downgrade", downgrade),
        *relative(f"{mix}: downgrade", downgrade, vacuum, DOWNGRADE, None),
    ]


def wanted_rows(arguments: list[str]) -> int:
    text = arguments[0] if len(arguments) == 1 else ""
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    print(f"nexus: ROWS is the number of media, at least 1, in digits; not '{text}'", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    media = wanted_rows(sys.argv[1:])
    end_on_signals()
    where = machine()
    steps = Steps()
    with temporary_project("nexus-bench-migration") as project:
        say("starting Postgres")
        server = Server(project)
        for mix in MIXES:
            say(f"filling a database at revision 0001, {media:,} media, statuses {mix}")
            server.make(mix, media)
        rounds: dict[str, list[Round]] = {mix: [] for mix in MIXES}
        for _ in range(ROUNDS):
            for mix in MIXES:
                rounds[mix].append(one_round(server, mix, steps))
        where = f"{where}; Postgres {server.version()}"
    for mix in MIXES:
        steps.tell(f"{mix}: upgrade")
        steps.tell(f"{mix}: downgrade")
    rows = [row for mix in MIXES for row in rows_of(mix, rounds[mix])]
    publish("migration", [Row("media", media, "rows"), *rows], where)


if __name__ == "__main__":
    main()
