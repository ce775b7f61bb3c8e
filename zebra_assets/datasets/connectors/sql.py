"""SQL: the rows of exactly one SELECT, with bound parameters, in a read-only transaction, streamed.

`source.url` is an SQLAlchemy URL (Postgres, SQLite, MySQL, MariaDB, any with a driver), ``${NAME}`` in it a secret;
SQLite paths are relative to the project root. Rows come in the database's order: give the recipe a key, or the query an
ORDER BY, for a manifest id that repeats. Two options stand in the URL's query, because `source.parameters` are the
query's: ``zebra_timeout_s`` (3600) and ``zebra_fast`` (on).

Postgres and SQLite are read through ADBC (`_adbc`) where that yields the same cells. 1,000,000 rows of ten mixed columns
take 6.3 s of CPU row by row, and 0.9 s (Postgres) or 1.5 s (SQLite) that way; by the clock 7 and 4 times less.
"""

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.names import safe_join
from zebra_assets.datasets.connector import fill_secrets
from zebra_assets.datasets.connectors import _adbc, _fast_text, _rows, _session
from zebra_assets.datasets.connectors._select import one_select
from zebra_assets.errors import NotFound, SpecInvalid, Unavailable

log = logging.getLogger(__name__)
TIMEOUT_S = 3600.0
LONGEST_S = 7 * 86_400


class Sql:
    """Rows of one query."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.url or not source.query:
            raise SpecInvalid(
                "The sql connector needs source.url and source.query.", fix="url: sqlite:///data/shop.db\n  query: SELECT ..."
            )
        self.parameters = dict(source.parameters)
        try:
            url, self.timeout_s, self.fast = _options(make_url(fill_secrets(source.url, secrets)))
        except ArgumentError as error:
            raise SpecInvalid(f"source.url: {error}", fix="url: postgresql+psycopg2://user:${PASSWORD}@host/database") from error
        self.url = _below(_session.driven(url), project)
        self.query = one_select(source.query, self.url.get_backend_name())

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. One transaction, so one snapshot."""
        engine = self._engine()
        if self.fast:
            try:
                with self._fast(engine, columns) as batches:
                    yield from batches
                return
            except _adbc.NotAlike as why:
                log.info("%s is read row by row: %s", self.location(), why)
        yield from self._generic(engine, columns)

    def revision(self) -> str | None:
        """Databases have no version that could be told again."""
        return None

    def location(self) -> str:
        """The URL with its password hidden."""
        return self.url.render_as_string(hide_password=True)

    def _fast(self, engine: sa.Engine, columns: Mapping[str, Dtype]) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        where = self.location()
        if self.url.drivername == "postgresql+psycopg2":
            dsn = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
            return _adbc.postgres(dsn, _fast_text.postgres(engine, self.query, self.parameters), columns, where, self.timeout_s)
        if self.url.get_backend_name() == "sqlite":
            text, values = _fast_text.sqlite(self.query, self.parameters)
            return _adbc.sqlite(Path(self.url.database or ""), text, values, columns, where, self.timeout_s)
        raise _adbc.NotAlike(f"there is no faster way from {self.url.get_backend_name()}")

    def _generic(self, engine: sa.Engine, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise Unavailable(
                f"{self.location()} cannot be reached: {_said(error)}", fix="check the URL, and that the server runs"
            ) from error
        with connection:
            try:
                _session.prepare(connection, self.timeout_s)
                streamed = connection.execution_options(stream_results=True, max_row_buffer=_rows.MOST_ROWS)
                yield from _rows.batches(self._execute(streamed), columns, self.location())
            except SQLAlchemyError as error:
                raise self._failed(error.orig if isinstance(error, DBAPIError) and error.orig else error) from error

    def _execute(self, connection: sa.Connection) -> sa.CursorResult[Any]:
        try:
            return connection.execute(sa.text(self.query), self.parameters)
        except (ValueError, TypeError, OverflowError) as error:  # drivers on a NUL byte, a list, an integer beyond 64 bits
            if str(error).startswith("year "):  # the first row is fetched already
                raise _adbc.beyond_the_calendar(self.location(), str(error)) from error
            said = f"source.parameters cannot be sent to {self.location()}: {error}"
            raise SpecInvalid(said, fix="correct source.parameters in dataset.yaml") from error

    def _failed(self, error: BaseException) -> SpecInvalid | Unavailable:
        where, said = self.location(), _said(error)
        if _session.timed_out(error):
            return _adbc.timed_out(where, said)
        if _session.lost(error):
            return Unavailable(f"{where} broke off: {said}", fix="run the ingest again")
        return SpecInvalid(f"{where} refused the query: {said}", fix="correct source.query in dataset.yaml")

    def _engine(self) -> sa.Engine:
        try:
            if self.url.get_backend_name() != "sqlite":
                return sa.create_engine(self.url, poolclass=NullPool)
            file = Path(self.url.database or "")
            if not file.is_file():
                raise NotFound(f"There is no SQLite file {file}.", fix="correct source.url in dataset.yaml")
            name = f"file:{quote(str(file))}?mode=ro"
            return sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(name, uri=True), poolclass=NullPool)
        except (NoSuchModuleError, ImportError) as error:
            fix = "pip install 'zebraops[mysql]'" if "mysql" in self.url.drivername else "pip install its driver"
            raise SpecInvalid(f"source.url: no driver for {self.url.drivername}: {error}", fix=fix) from error


def _options(url: URL) -> tuple[URL, float, bool]:
    """The URL without this connector's own options, the seconds that a query may take, and whether the fast way is open."""
    seconds, fast = url.query.get("zebra_timeout_s"), url.query.get("zebra_fast", "on")
    try:
        timeout_s = float(str(seconds)) if seconds is not None else TIMEOUT_S
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= LONGEST_S:
        raise SpecInvalid(f"source.url: zebra_timeout_s is {seconds}, not 0 to {LONGEST_S:,} seconds.", fix="?zebra_timeout_s=7200")
    if fast not in ("on", "off"):
        raise SpecInvalid(f"source.url: zebra_fast is {fast!r}, neither on nor off.", fix="?zebra_fast=off")
    if unknown := [name for name in url.query if name.startswith("zebra_") and name not in ("zebra_timeout_s", "zebra_fast")]:
        raise SpecInvalid(f"source.url: the connector has no option {unknown[0]}.", fix="?zebra_timeout_s=7200&zebra_fast=off")
    return url.difference_update_query(["zebra_timeout_s", "zebra_fast"]), timeout_s, fast == "on"


def _below(url: URL, project: Path) -> URL:
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return url
    path = Path(url.database)
    return url.set(database=str(path if path.is_absolute() else safe_join(project, url.database)))


def _said(error: BaseException) -> str:
    """The database's own words, without the statement and its parameters."""
    words = error.args[-1] if error.args and type(error).__module__.startswith("pymysql") else error
    return (str(words).strip().splitlines() or [type(error).__name__])[0]


KIND = Sql
