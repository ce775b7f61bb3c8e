"""SQL: the rows of exactly one SELECT, with bound parameters, in a read-only transaction.

`source.url` is an SQLAlchemy URL, ``${NAME}`` in it a secret; SQLite paths are relative to the project root. Rows come
in the database's order: give the recipe a key, or the query an ORDER BY, for a manifest id that repeats.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.names import safe_join
from zebra_assets.datasets.connector import BATCH_ROWS, fill_secrets, match_columns
from zebra_assets.errors import NotFound, SpecInvalid, Unavailable

TIMEOUT_S = 600
# Text, quoted names, dollar quotes and comments: what a ';' or a word may hide in.
_QUIET = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL)


class Sql:
    """Rows of one query."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.url or not source.query:
            raise SpecInvalid(
                "The sql connector needs source.url and source.query.", fix="url: sqlite:///data/shop.db\n  query: SELECT ..."
            )
        self.query = one_select(source.query)
        self.parameters = dict(source.parameters)
        try:
            self.url = _below(make_url(fill_secrets(source.url, secrets)), project)
        except ArgumentError as error:
            raise SpecInvalid(f"source.url: {error}", fix="url: postgresql+psycopg2://user:${PASSWORD}@host/database") from error

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. One transaction, so one snapshot on SQLite and Postgres."""
        engine = self._engine()
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise Unavailable(
                f"{self.location()} cannot be reached: {_said(error)}", fix="check the URL, and that the server runs"
            ) from error
        with connection:
            try:
                self._read_only(connection)
                result = connection.execution_options(stream_results=True, yield_per=BATCH_ROWS).execute(
                    sa.text(self.query), self.parameters
                )
                names = match_columns(list(result.keys()), columns, self.location())
                at = [list(result.keys()).index(name) for name in names]
                for rows in result.partitions():
                    yield _batch(names, at, rows)
            except SQLAlchemyError as error:
                lost = isinstance(error, DBAPIError) and (error.connection_invalidated or type(error.orig).__name__ == "QueryCanceled")
                if lost:
                    raise Unavailable(f"{self.location()} broke off: {_said(error)}", fix="run the ingest again") from error
                raise SpecInvalid(
                    f"{self.location()} refused the query: {_said(error)}", fix="correct source.query in dataset.yaml"
                ) from error

    def revision(self) -> str | None:
        """Databases have no version that could be told again."""
        return None

    def location(self) -> str:
        """The URL with its password hidden."""
        return self.url.render_as_string(hide_password=True)

    def _engine(self) -> sa.Engine:
        try:
            if self.url.get_backend_name() != "sqlite":
                return sa.create_engine(self.url, poolclass=NullPool)
            file = Path(self.url.database or "")
            if not file.is_file():
                raise NotFound(f"There is no SQLite file {file}.", fix="correct source.url in dataset.yaml")
            return sa.create_engine(f"sqlite:///file:{file}?mode=ro&uri=true", poolclass=NullPool)
        except (NoSuchModuleError, ImportError) as error:
            raise SpecInvalid(f"source.url: no driver for {self.url.drivername}: {error}", fix="pip install its driver") from error

    def _read_only(self, connection: sa.Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.execute(sa.text("PRAGMA query_only = ON"))
        elif connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            connection.execute(sa.text(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'"))


def one_select(query: str) -> str:
    """Return the query without a closing ';', if it is exactly one SELECT (or WITH ... SELECT).

    Raises:
        SpecInvalid: anything else. The read-only transaction stands behind this for what hides inside functions.
    """
    text = query.strip()
    bare = _QUIET.sub(" ", text).strip()
    if bare.endswith(";"):
        bare, text = bare[:-1], text.rstrip().removesuffix(";")
    first = re.match(r"\(*\s*(\w*)", bare)
    if ";" in bare or first is None or first[1].lower() not in ("select", "with"):
        raise SpecInvalid("source.query is not exactly one SELECT.", fix="keep one SELECT, without ';', in source.query")
    return text


def _below(url: URL, project: Path) -> URL:
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return url
    path = Path(url.database)
    return url.set(database=str(path if path.is_absolute() else safe_join(project, url.database)))


def _batch(names: list[str], at: list[int], rows: Sequence[Any]) -> pa.RecordBatch:
    cells = list(zip(*rows, strict=True))
    return pa.RecordBatch.from_arrays([_array(cells[i]) for i in at], names=names)


def _array(values: Sequence[Any]) -> pa.Array:
    """Arrow's own idea of the type; SQLite lets types mix in a column, and then they travel as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if v is None else str(v) for v in values])


def _said(error: SQLAlchemyError) -> str:
    """The database's own words, without the statement and its parameters."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


KIND = Sql
