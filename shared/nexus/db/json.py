"""Rows as the JSON text that leaves the API: Postgres writes it once, and nobody parses it on the way."""

from typing import Any

from sqlalchemy import ColumnElement, Label, ScalarSelect, Select, Text, cast, func, literal_column, select
from sqlalchemy.orm import InstrumentedAttribute

#: ISO 8601 in UTC with microseconds and a Z, whatever the session's time zone.
_FORMAT: ColumnElement[str] = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'""")
_UTC: ColumnElement[str] = literal_column("'UTC'")
_EMPTY: ColumnElement[str] = literal_column("'[]'")


def utc(column: InstrumentedAttribute[Any]) -> Label[str]:
    """A timestamptz as text, under its own name."""
    return func.to_char(func.timezone(_UTC, column), _FORMAT).label(column.key)


def json_object(rows: Select[*tuple[Any, ...]]) -> ScalarSelect[str]:
    """The one row of a select as a JSON object; NULL if there is none."""
    row = rows.subquery("item")
    return select(cast(func.row_to_json(row.table_valued()), Text)).scalar_subquery()


def json_array(rows: Select[*tuple[Any, ...]]) -> ScalarSelect[str]:
    """The rows of a select, in their order, as a JSON array."""
    row = rows.subquery("item")
    return select(func.coalesce(cast(func.json_agg(row.table_valued()), Text), _EMPTY)).scalar_subquery()
