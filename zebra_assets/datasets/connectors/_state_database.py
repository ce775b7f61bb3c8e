"""The events table of a state database, opened to read: what `events` needs of SQLite and Postgres, and where they differ."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from zebra_assets.errors import NotFound, SpecInvalid, Unavailable

TIMEOUT_S = 600


class Database:
    """A state database by its SQLAlchemy URL; SQLite paths are relative to ``project``."""

    events = sa.table(
        "events",
        *(sa.column(name, sa.String) for name in ("event_id", "type", "model", "version", "body")),
        sa.column("seq", sa.BigInteger),
    )

    def __init__(self, url: str, project: Path) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise SpecInvalid("source.url is no database URL.", fix="url: ${ZEBRA_STATE_URL}") from error
        self.kind = self.url.get_backend_name()
        if self.kind not in ("sqlite", "postgresql", "postgres"):
            raise SpecInvalid(f"The state database cannot be a {self.kind} database.", fix="url: ${ZEBRA_STATE_URL}")
        self.file = project / (self.url.database or "")
        self.shown = self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One read-only transaction, so every statement sees the same moment.

        Raises:
            NotFound: there is no such database, or no events table in it.
            Unavailable: it cannot be reached, or broke off.
        """
        try:
            with self._engine().connect() as connection:
                self._begin(connection)
                if not sa.inspect(connection).has_table("events"):
                    raise NotFound(f"{self.shown} is no state database: it has no events.", fix="mlops init")
                yield connection
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise Unavailable(f"{self.shown} cannot be read: {why}", fix="check ZEBRA_STATE_URL; `mlops doctor` looks") from error

    def _engine(self) -> sa.Engine:
        try:
            if self.kind != "sqlite":
                return sa.create_engine(self.url.set(drivername="postgresql+psycopg2"), poolclass=NullPool, hide_parameters=True)
        except (NoSuchModuleError, ImportError) as error:
            raise SpecInvalid(f"The driver of {self.shown} is not installed: {error}.", fix="pip install 'zebraops[assets]'") from error
        if not self.file.is_file():
            raise NotFound(f"There is no state database {self.file} yet.", fix="mlops init")
        # Not mode=ro: a reader of a WAL database may have to make its -shm file.
        return sa.create_engine(f"sqlite:///file:{quote(str(self.file))}?mode=rw&uri=true", poolclass=NullPool, hide_parameters=True)

    def _begin(self, connection: sa.Connection) -> None:
        if self.kind == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
            connection.exec_driver_sql("BEGIN")  # the driver itself begins before a write only
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'")


def said(connection: sa.Connection, body: sa.ColumnElement[Any], field: str) -> sa.ColumnElement[Any]:
    """The text of one field of an event's JSON."""
    if connection.dialect.name == "sqlite":
        return sa.func.json_extract(body, f"$.{field}")
    return sa.cast(body, sa.JSON)[field].as_string()


def collated(connection: sa.Connection, text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Text compared by its bytes, as SQLite does anyway; Postgres would ask the locale."""
    return text if connection.dialect.name == "sqlite" else text.collate("C")
