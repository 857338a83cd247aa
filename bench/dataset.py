"""What the measured requests are about: a database filled with bench/data.sql, and a user who is in it."""

import re
from typing import NamedTuple
from uuid import UUID, uuid4

from bench.project import Project
from nexus.auth.local import user_id
from nexus.db.statement import Read

#: Whose token is used, as `nexus token` knows them.
VIEWER_NAME = "bench"


class Dataset(NamedTuple):
    """The ids that the measured requests name, and the headers that they carry."""

    viewer: UUID
    library: UUID
    media: UUID
    headers: dict[str, str]


def fill(project: Project) -> Dataset:
    """Fill the database of a stack that runs; gives what the requests need."""
    ids = {"viewer": user_id(VIEWER_NAME), "library": uuid4(), "media": uuid4()}
    variables = [f"--set={name}={value}" for name, value in ids.items()]
    psql(project, (project.folder / "bench" / "data.sql").read_text(), *variables)
    token = project.compose("exec", "-T", "api", "nexus", "token", VIEWER_NAME).strip()
    secret = project.compose("exec", "-T", "api", "printenv", "NEXUS_INTERNAL_SECRET").strip()
    return Dataset(**ids, headers={"Authorization": f"Bearer {token}", "X-Nexus-Internal": secret})


def psql(project: Project, script: str, *options: str) -> str:
    """What psql prints for a script, values only."""
    command = ("psql", "--quiet", "--no-align", "--tuples-only", "--no-psqlrc", "--set=ON_ERROR_STOP=1")
    return project.compose("exec", "-T", "pgbench", *command, *options, stdin=script)


def script_of(read: Read, **values: object) -> str:
    """The statement of a read as a script for pgbench and psql, its values as literals."""
    sql = re.sub(
        r"\$(\d+)", lambda place: f"'{values[read.parameters[int(place[1]) - 1]]}'", read.sql.decode()
    )
    # pgbench would take the `:MI` in a time's format for a variable. As an escape it is the same constant.
    return re.sub(r"'[^']*'", _without_colon, sql) + ";\n"


def _without_colon(literal: re.Match[str]) -> str:
    text = literal[0]
    return "U&" + text.replace(":", r"\003A") if ":" in text else text
