"""The fast way and the generic way of the sql connector yield the same cells, or the fast one steps aside."""

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from tests.datasets.conftest import postgres
from tests.datasets.mariadb import mariadb
from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.datasets.connectors.sql import Sql
from zebra_assets.datasets.dtypes import ARROW, to_dtype
from zebra_assets.errors import DataInvalid, Refused, SpecInvalid, Unavailable

__all__ = ["mariadb", "postgres"]  # fixtures
STEPPED_ASIDE = "is read row by row"


def cells(url: str, query: str, columns: dict[str, Dtype], fast: str, **parameters: Any) -> pa.Table:
    """The query's rows, cast as an ingest casts them."""
    joined = f"{url}{'&' if '?' in url else '?'}zebra_fast={fast}"
    source = SourceSpec(connector="sql", url=joined, query=query, parameters=parameters)
    batches = list(Sql(source, project=Path("/"), secrets={}).batches(columns))
    return pa.table({n: pa.chunked_array([to_dtype(b.column(n), d) for b in batches], ARROW[d]) for n, d in columns.items()})


@pytest.fixture
def server(postgres: str) -> str:
    return f"{postgres}/postgres".replace("postgresql", "postgresql+psycopg2")


@pytest.mark.parametrize(
    ("expression", "dtype"),
    [
        ("(i - 500)::int2", "int64"),
        ("i::int4", "float64"),
        ("9223372036854775807 - i", "int64"),
        ("-9223372036854775808 + i", "int64"),
        ("(i / 10.0)::float4", "float64"),
        ("'-infinity'::float4", "float64"),
        ("sqrt(i)", "float64"),
        ("CASE WHEN i % 3 = 0 THEN 'NaN'::float8 ELSE 1e300 * i END", "float64"),
        ("(i / 7.0)::numeric", "float64"),
        ("(i * 1e25)::numeric(40, 5)", "float64"),
        ("0.1::numeric + i * 1e-20", "float64"),
        ("(CASE WHEN i % 3 = 0 THEN 'NaN' WHEN i % 3 = 1 THEN 'Infinity' ELSE '-1.50' END)::numeric", "float64"),
        ("(CASE WHEN i % 3 = 0 THEN 'NaN' ELSE '1.50' END)::numeric", "string"),
        ("(i || '.00')::numeric", "int64"),
        ("(i || '.2500')::numeric", "string"),
        ("i % 2 = 0", "bool"),
        ("'0001-01-01'::date + i * 3000", "date"),
        ("CASE WHEN i % 2 = 0 THEN 'infinity'::date ELSE '-infinity' END", "date"),
        ("'1999-12-31 23:59:59.999999'::timestamp + i * interval '1 hour'", "timestamp"),
        ("'2026-03-29 01:30:00.000001+01'::timestamptz + i * interval '1 hour'", "timestamp"),
        ("CASE WHEN i % 2 = 0 THEN 'infinity'::timestamptz ELSE '-infinity' END", "timestamp"),
        ("'1960-01-01'::date + i", "timestamp"),
        ("U&'\\+01F993\\FEFF' || chr(13) || chr(10) || i", "string"),
        ("'ab'::char(5)", "string"),
        ("''::varchar(3)", "string"),
        ("NULL", "string"),
        ("NULLIF(i % 2, 0)", "int64"),
    ],
)
def test_every_plain_type_of_postgres_is_the_same_cell_either_way(
    server: str, expression: str, dtype: Dtype, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    query = f"SELECT i, {expression} AS cell FROM generate_series(0, 999) i ORDER BY i"
    fast, slow = (cells(server, query.replace(":", r"\:"), {"i": "int64", "cell": dtype}, way) for way in ("on", "off"))
    assert STEPPED_ASIDE not in caplog.text
    assert fast.num_rows == 1000
    assert fast.to_pydict() == slow.to_pydict() or str(fast.to_pydict()) == str(slow.to_pydict())  # NaN


@pytest.mark.parametrize("expression", ["'5'::money", "'\\x01'::bytea", "interval '1 day'", "'{1}'::int[]", "'10:00'::time", "'{}'::jsonb"])
def test_other_types_of_postgres_take_the_generic_way_and_say_so(server: str, expression: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = SourceSpec(connector="sql", url=server, query=f"SELECT {expression} AS cell".replace("::", r"\:\:"))
    assert sum(b.num_rows for b in Sql(source, project=Path("/"), secrets={}).batches({"cell": "string"})) == 1
    assert STEPPED_ASIDE in caplog.text


@pytest.mark.parametrize("way", ["on", "off"])
@pytest.mark.parametrize("moment", ["'0044-03-15 BC'::date", "'294000-01-01'::timestamptz"])
def test_a_date_beyond_the_calendar_is_refused_either_way(server: str, moment: str, way: str) -> None:
    with pytest.raises(DataInvalid, match="outside the years 1 to 9999"):
        cells(server, f"SELECT {moment} AS cell".replace("::", r"\:\:"), {"cell": "date"}, way)


@pytest.mark.parametrize("way", ["on", "off"])
def test_a_row_that_fails_late_fails_the_whole_read(server: str, way: str) -> None:
    with pytest.raises(SpecInvalid, match="division by zero"):
        cells(server, "SELECT 1 / (299999 - i) AS cell FROM generate_series(0, 299999) i", {"cell": "int64"}, way)


MIXED: dict[str, tuple[list[Any], Dtype, bool]] = {
    "integers": ([1, None, 2**63 - 1, -(2**63)], "int64", False),
    "floats": ([0.1 + 0.2, None, 1e308, -0.0, 5e-324], "float64", False),
    "text": (["Zoë", "", None, "a\x00b", "🦓", " 1"], "string", False),
    "dates": (["2026-01-31", None], "date", False),
    "whole numbers among floats": ([1, 2.5, None], "float64", False),
    "large whole numbers among floats": ([2**60 + 1, 2.5], "float64", True),
    "numbers among text": ([7, "x"], "string", False),
    "floats among text": ([0.1 + 0.2, "5"], "float64", True),
    "text after 70,000 integers": ([*range(70_000), "70000"], "int64", True),
    "a float after 70,000 integers": ([*range(70_000), 0.5], "float64", True),
    "nothing but null": ([None, None], "int64", False),
}


@pytest.mark.parametrize("name", MIXED)
def test_whatever_sqlite_keeps_in_a_column_is_the_same_cell_either_way(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    values, dtype, aside = MIXED[name]
    file = tmp_path / "a #%.db"
    with sqlite3.connect(file) as db:
        db.execute('create table t (i integer primary key, "an ""odd"" name")')
        db.executemany("insert into t values (?, ?)", list(enumerate(values)))
    db.close()
    columns: dict[str, Dtype] = {'an "odd" name': dtype}
    url = f"sqlite:///{file}"
    fast, slow = (cells(url, "SELECT * FROM t WHERE i >= :first ORDER BY i", columns, way, first=0) for way in ("on", "off"))
    assert fast.column(0).to_pylist() == slow.column(0).to_pylist()
    assert fast.num_rows == len(values)
    assert (STEPPED_ASIDE in caplog.text) == aside


@pytest.mark.parametrize("way", ["on", "off"])
def test_blobs_and_broken_text_are_refused_either_way(tmp_path: Path, way: str) -> None:
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t as select x'ff00' as cell, cast(x'ff' as text) as broken")
    db.close()
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with pytest.raises(pa.ArrowNotImplementedError):
        cells(url, "SELECT cell FROM t", {"cell": "string"}, way)
    with pytest.raises(SpecInvalid, match="UTF-8"):
        cells(url, "SELECT broken FROM t", {"broken": "string"}, way)


@pytest.mark.parametrize("way", ["on", "off"])
def test_rows_of_a_megabyte_come_a_few_at_a_time_and_cells_of_a_gigabyte_not_at_all(tmp_path: Path, way: str) -> None:
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t (i integer)")
        db.executemany("insert into t values (?)", [(i,) for i in range(300)])
    db.close()
    url = f"sqlite:///{tmp_path / 'a.db'}"
    source = SourceSpec(connector="sql", url=f"{url}?zebra_fast={way}", query="SELECT hex(zeroblob(500000)) AS cell FROM t")
    sizes = [batch.nbytes for batch in Sql(source, project=Path("/"), secrets={}).batches({"cell": "string"})]
    assert sum(sizes) > 300_000_000
    assert max(sizes) < 130 << 20
    with pytest.raises(SpecInvalid, match="too big"):
        cells(url, "SELECT hex(zeroblob(499999999)) AS cell FROM t", {"cell": "string"}, way)


def test_only_one_walk_through_one_table_is_asked_of_the_driver_that_cannot_be_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t as select 1 as cell")
    db.close()
    for query in (
        "SELECT a.cell FROM t a, t b",
        "SELECT (SELECT count(*) FROM t) AS cell FROM t",
        "SELECT value AS cell FROM json_each('[1]')",
    ):
        caplog.clear()
        assert cells(f"sqlite:///{tmp_path / 'a.db'}", query, {"cell": "int64"}, "on").num_rows == 1
        assert STEPPED_ASIDE in caplog.text


def test_mariadb_keeps_its_numbers_times_and_large_integers(mariadb: str) -> None:
    engine = sa.create_engine(mariadb)
    with engine.begin() as db:
        db.execute(sa.text("create or replace table t (d decimal(30,10), u bigint unsigned, at timestamp(6), s text)"))
        db.execute(sa.text("set time_zone = '+05:00'"))
        db.execute(sa.text("insert into t values (0.1, 18446744073709551615, '2026-01-01 05:00:00.000001', '🦓')"))
        db.execute(sa.text("create or replace function grow() returns int begin insert into t(s) values ('x'); return 1; end"))
    engine.dispose()
    got = cells(mariadb, "SELECT * FROM t", {"d": "float64", "u": "string", "at": "timestamp", "s": "string"}, "on")
    assert [str(v) for v in got.to_pylist()[0].values()] == ["0.1", "18446744073709551615", "2026-01-01 00:00:00.000001+00:00", "🦓"]
    with pytest.raises(pa.ArrowInvalid):
        cells(mariadb, "SELECT u FROM t", {"u": "int64"}, "on")
    with pytest.raises(SpecInvalid, match="READ ONLY transaction"):
        cells(mariadb, "SELECT grow() AS s", {"s": "string"}, "on")
    for option in ("init_command=DELETE+FROM+t", "client_flag=65536", "local_infile=1"):
        with pytest.raises(Refused, match="which is refused"):
            cells(f"{mariadb}?{option}", "SELECT s FROM t", {"s": "string"}, "on")


def test_a_query_of_mariadb_that_takes_too_long_is_ended(mariadb: str) -> None:
    with pytest.raises(Unavailable, match="max_statement_time exceeded"):
        cells(f"{mariadb}?zebra_timeout_s=0.3", "SELECT sleep(20) AS s", {"s": "int64"}, "on")
