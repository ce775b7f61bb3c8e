"""A query with its parameters as the fast way of `sql` sends it: for Postgres written out, for SQLite bound."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.exc import SQLAlchemyError

from zebra_assets.datasets.connectors._adbc import NotAlike


def postgres(engine: sa.Engine, query: str, parameters: dict[str, Any]) -> str:
    """The text that psycopg2 would send, its quoting done by psycopg2 on a connection to that very server.

    A parameter sent beside the text would have a type of its own, where a quoted one takes the type of what it is
    compared with: '2026-01-01' is a date beside a date, a text parameter is an error there.

    Raises:
        NotAlike: a parameter is missing, or the server is away.
    """
    clause = sa.text(query)
    names = _named(clause, parameters)
    if not names:
        return str(clause.compile(dialect=PGDialect(paramstyle="named")))  # type: ignore[no-untyped-call]
    try:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_client_encoding("UTF8")
            with driver.cursor() as cursor:
                written: bytes = cursor.mogrify(str(clause.compile(dialect=engine.dialect)), {name: parameters[name] for name in names})
                return written.decode()
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error, ValueError) as error:
        raise NotAlike(str(error)) from error


def sqlite(query: str, parameters: dict[str, Any]) -> tuple[str, list[Any]]:
    """The text with '?' for its parameters, and their values in that order.

    Raises:
        NotAlike: a parameter is missing, or of a type that the two drivers might bind differently.
    """
    clause = sa.text(query)
    names = _named(clause, parameters)
    compiled = clause.compile(dialect=SQLiteDialect())
    values = [parameters[name] for name in compiled.positiontup or []]
    for name, value in zip(names, values, strict=False):
        if not (value is None or isinstance(value, str | float | bool) or (isinstance(value, int) and -(2**63) <= value < 2**63)):
            raise NotAlike(f"parameter {name!r} is of type {type(value).__name__}")
    return str(compiled), values


def _named(clause: sa.TextClause, parameters: dict[str, Any]) -> list[str]:
    names = list(clause.compile().params)
    if missing := [name for name in names if name not in parameters]:
        raise NotAlike(f"no value for parameter {missing[0]!r}")
    return names
