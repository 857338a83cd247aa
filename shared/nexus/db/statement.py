"""A select in the form in which it runs: compiled once, when its module is imported."""

from hashlib import sha256
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

_DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


class Read:
    """A select of one row; `nexus.db.reads` runs it, with its bind parameters given by name."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        self.sql = str(compiled).encode()
        self.parameters = tuple(compiled.positiontup or ())
        #: What the select itself holds.
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}
        #: Names the prepared statement of each connection.
        self.name = sha256(self.sql).hexdigest()[:32].encode()
