"""The fast way from Postgres and SQLite: ADBC hands over Arrow batches, and no cell becomes a Python object.

It is taken only where it yields the very cells of the generic way in `sql`; `NotAlike` says why not, and `sql` goes the
other way. Three rules make the cells alike:

- Postgres reads the same text: psycopg2 writes the parameters into it exactly as it does for the generic way.
- Types pass by the database's name for them. float4 goes through its shortest text, numeric stays text.
- SQLite lets types mix within a column, which shows only at some later row: its rows rest in scratch until all are there.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import BATCH_ROWS, match_columns
from zebra_assets.errors import DataInvalid, SpecInvalid, Unavailable

PLAIN = frozenset({"int2", "int4", "int8", "float8", "bool", "date", "timestamp", "timestamptz", "text", "varchar", "bpchar"})
BATCH_BYTES = 64 << 20
_HEAP_BYTES = 256 << 20
_SQLITE = (pa.int64(), pa.float64(), pa.string())
_FIRST, _LAST = ((day - date(1970, 1, 1)).days for day in (date.min, date.max))
_DAY_US = 86_400_000_000
# Type of storage, infinity and -infinity as they leave the driver (wrapped around), and the first and last that Python
# knows, which psycopg2 makes of them.
_DATES = (pa.int32(), -2147472692, -2147472691, _FIRST, _LAST)
_TIMES = (pa.int64(), -9222425352054775809, -9222425352054775808, _FIRST * _DAY_US, (_LAST + 1) * _DAY_US - 1)


class NotAlike(Exception):
    """The generic way might yield other cells, or has better words for what is wrong."""


@contextmanager
def postgres(dsn: str, query: str, columns: Mapping[str, Dtype], where: str, timeout_s: float) -> Iterator[Iterator[pa.RecordBatch]]:
    """The rows of ``query``, parameters written into it, in a read-only transaction.

    Raises:
        NotAlike: before the first row.
        DataInvalid: a column is missing, or a date lies outside the years 1 to 9999.
        SpecInvalid, Unavailable: the query failed while its rows were read.
    """
    try:
        import adbc_driver_postgresql.dbapi as adbc
    except ImportError as error:
        raise NotAlike(str(error)) from error
    try:
        connection = adbc.connect(dsn)
    except adbc.Error as error:
        raise NotAlike(str(error)) from error
    with closing(connection), connection.cursor() as cursor:
        try:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL client_encoding = 'UTF8'")
            cursor.execute(f"SET LOCAL statement_timeout = {max(1, round(timeout_s * 1000))}")
            cursor.execute(query + "\n")  # the driver wraps it in COPY (...): a comment at its end must end
            reader = cursor.fetch_record_batch()
        except (adbc.Error, OSError, pa.ArrowException) as error:
            if getattr(error, "sqlstate", None) == "57014":
                raise timed_out(where, "canceling statement due to statement timeout") from error
            raise NotAlike(str(error)) from error
        wanted = match_columns(reader.schema.names, columns, where)
        convert = {name: _converter(reader.schema.field(name), columns[name], where) for name in wanted}

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for batch in reader:
                    yield pa.RecordBatch.from_arrays([convert[name](batch.column(name)) for name in wanted], names=wanted)
            except (adbc.Error, OSError, pa.ArrowException) as error:
                raise _broke_off(str(error), where) from error

        try:
            yield batches()
        finally:
            reader.close()


def _converter(field: pa.Field, dtype: Dtype, where: str) -> Callable[[pa.Array], pa.Array]:
    """From the driver's cells to those of the generic way."""
    kind = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if kind == "numeric":
        return lambda cells: plain_numerals(cells.storage if isinstance(cells, pa.ExtensionArray) else cells, dtype)
    if kind == "float4":  # 0.1 is 0.1 there, too, and not 0.10000000149011612
        return lambda cells: cells.cast(pa.string()).cast(pa.float64())
    if kind not in PLAIN:
        raise NotAlike(f"column {field.name!r} is of type {kind}")
    if kind == "date":
        return lambda cells: _bounded(cells, field.name, where, *_DATES)
    if kind in ("timestamp", "timestamptz"):
        return lambda cells: _bounded(cells, field.name, where, *_TIMES)
    return lambda cells: cells


def plain_numerals(cells: pa.Array, dtype: Dtype) -> pa.Array:
    """Decimal numbers as text, so that float64 is the nearest one; where the text itself counts, without zeros at its end."""
    if dtype == "float64":
        return cells
    return pc.replace_substring_regex(cells, r"^([^.]*)(?:\.0*|(\.\d*[1-9])0*)$", r"\1\2")


def _bounded(cells: pa.Array, name: str, where: str, kind: pa.DataType, above: int, below: int, first: int, last: int) -> pa.Array:
    numbers = cells.cast(kind)
    ends = pc.min_max(numbers)
    if ends["min"].as_py() is None or (ends["min"].as_py() >= first and ends["max"].as_py() <= last):
        return cells
    numbers = pc.if_else(pc.equal(numbers, pa.scalar(above, kind)), pa.scalar(last, kind), numbers)
    numbers = pc.if_else(pc.equal(numbers, pa.scalar(below, kind)), pa.scalar(first, kind), numbers)
    ends = pc.min_max(numbers)
    if ends["min"].as_py() < first or ends["max"].as_py() > last:
        raise beyond_the_calendar(where, f"column {name!r}")
    return numbers.cast(cells.type)


def beyond_the_calendar(where: str, what: str) -> DataInvalid:
    """The error for a moment that Python and the manifest have no room for."""
    return DataInvalid(f"{where}: {what} holds a date outside the years 1 to 9999.", fix="leave such rows out in source.query")


def _broke_off(said: str, where: str) -> SpecInvalid | Unavailable:
    if "statement timeout" in said:
        return timed_out(where, "canceling statement due to statement timeout")
    line = next((part.strip() for part in said.splitlines() if "ERROR" in part), said)
    if "ERROR:" in said and "terminating" not in said:
        return SpecInvalid(f"{where} refused the query: {line}", fix="correct source.query in dataset.yaml")
    return Unavailable(f"{where} broke off: {line}", fix="run the ingest again")


def timed_out(where: str, said: str) -> Unavailable:
    """The error for a statement that took longer than it may."""
    return Unavailable(f"{where} broke off: {said}", fix="ask for less in source.query, or add ?zebra_timeout_s=7200 to source.url")


@contextmanager
def sqlite(
    file: Path, query: str, values: Sequence[Any], columns: Mapping[str, Dtype], where: str, timeout_s: float
) -> Iterator[Iterator[pa.RecordBatch]]:
    """The rows of ``query`` from a database that is opened read-only. ``values`` are bound, in the order of its '?'.

    Raises:
        NotAlike: before the first row.
        DataInvalid: a column is missing.
        Unavailable: out of time, or of room for the scratch file.
    """
    try:
        import adbc_driver_sqlite.dbapi as adbc
    except ImportError as error:
        raise NotAlike(str(error)) from error
    deadline = time.monotonic() + timeout_s
    with TemporaryDirectory(prefix="zebra-sql-") as scratch:
        kept = Path(scratch) / "rows.arrow"
        try:
            with closing(adbc.connect(f"file:{quote(str(file))}?mode=ro")) as connection, connection.cursor() as cursor:
                cursor.execute("PRAGMA query_only = ON")
                cursor.execute(f"PRAGMA hard_heap_limit = {_HEAP_BYTES}")  # a cell may be computed, and up to 2 GB
                _refuse_endless(cursor, query, values)
                rows = _rows_per_batch(cursor, query, values)
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": rows})
                cursor.execute(query, values)
                with cursor.fetch_record_batch() as reader:
                    schema = reader.schema
                    wanted = match_columns(schema.names, columns, where)
                    if odd := [name for name in wanted if schema.field(name).type not in _SQLITE]:
                        raise NotAlike(f"column {odd[0]!r} is of type {schema.field(odd[0]).type}")
                    _keep(reader, wanted, kept, deadline, where)
                _refuse_mixed(cursor, query, values, schema, wanted)
        except (adbc.Error, pa.ArrowException, OSError) as error:
            raise NotAlike(str(error)) from error
        with pa.OSFile(str(kept), "rb") as source, pa.ipc.open_stream(source) as rows:
            yield iter(rows)


def _refuse_endless(cursor: Any, query: str, values: Sequence[Any]) -> None:
    """This driver cannot be interrupted, so only one walk through one table is asked of it: that comes to an end."""
    cursor.execute(f"EXPLAIN QUERY PLAN {query}", values)
    steps = [str(row[-1]) for row in cursor.fetchall()]
    walks = [step for step in steps if not step.startswith("USE TEMP B-TREE")]
    if len(walks) != 1 or not walks[0].startswith(("SCAN ", "SEARCH ")) or "VIRTUAL" in walks[0]:
        raise NotAlike(f"the query is more than one walk through one table: {'; '.join(steps)[:200]}")


def _rows_per_batch(cursor: Any, query: str, values: Sequence[Any]) -> int:
    """As many as come near 64 MiB: the driver counts rows and not bytes. Looking at every row first costs half of reading them."""
    cursor.execute(f"SELECT * FROM (\n{query}\n) LIMIT 0", values)  # noqa: S608
    bytes_of_row = " + ".join(f"ifnull(octet_length({_quoted(column[0])}), 0)" for column in cursor.description)
    cursor.execute(f"SELECT max({bytes_of_row}) FROM (\n{query}\n)", values)  # noqa: S608
    widest = cursor.fetchone()[0] or 1
    return max(1, min(BATCH_ROWS, BATCH_BYTES // widest))


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _keep(reader: Any, wanted: list[str], kept: Path, deadline: float, where: str) -> None:
    schema = pa.schema([reader.schema.field(name) for name in wanted])
    with pa.OSFile(str(kept), "wb") as out, pa.ipc.new_stream(out, schema) as writer:
        for batch in reader:
            if time.monotonic() > deadline:
                raise timed_out(where, "interrupted")
            chosen = batch.select(wanted)
            chosen.validate(full=True)  # SQLite does not look whether text is UTF-8
            writer.write_batch(chosen)


def _refuse_mixed(cursor: Any, query: str, values: Sequence[Any], schema: pa.Schema, wanted: list[str]) -> None:
    """Numbers that became text with 15 digits, or whole numbers that became the nearest float."""
    doubts = []
    for name in wanted:
        column, kind = _quoted(name), schema.field(name).type
        if kind == pa.string():
            doubts.append(f"typeof({column}) = 'real'")
        elif kind == pa.float64():
            doubts.append(f"(typeof({column}) = 'integer' AND abs({column}) > {2**53})")
    if doubts:
        cursor.execute(f"SELECT 1 FROM (\n{query}\n) WHERE {' OR '.join(doubts)} LIMIT 1", values)  # noqa: S608
        if cursor.fetchone() is not None:
            raise NotAlike("a column mixes types")
