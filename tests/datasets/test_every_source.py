"""The same rows through every connector and format, each against the real thing, are one manifest.

A source is a function that puts `people()` somewhere and says the recipe's source; add a row by adding one to SOURCES.
`pytest -s` prints the table.
"""

import gzip
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
import zstandard

from tests.adapters.s3_servers import client, credentials, weed
from tests.datasets.conftest import Bench, csv_bytes, jsonl_bytes, people, plain, recipe, write_arrow, write_sqlite
from tests.datasets.mariadb import mariadb
from tests.datasets.web import Handler, Web, serve

__all__ = ["credentials", "mariadb", "weed"]  # fixtures
ROWS = people(400)
SELECT = "SELECT * FROM people WHERE visits >= :least"


@dataclass
class Place:
    """Where a source may be put: a project's folder, and whichever servers its maker asks for."""

    bench: Bench
    server: Callable[[str], Any]
    secrets: dict[str, str] = field(default_factory=dict)

    def file(self, name: str, content: bytes) -> dict[str, Any]:
        self.bench.put(name, content)
        return {"connector": "files", "path": f"data/{name}"}

    def table(self, name: str, write: Callable[[Path], object]) -> dict[str, Any]:
        write(self.bench.folder / "data" / name)
        return {"connector": "files", "path": f"data/{name}"}


Source = Callable[[Place], dict[str, Any]]


def parts(place: Place) -> dict[str, Any]:
    place.file("part-0.csv", csv_bytes(ROWS.slice(0, 150)))
    place.file("part-1.csv.gz", gzip.compress(csv_bytes(ROWS.slice(150, 150))))
    place.file("part-2.csv.zst", zstandard.compress(csv_bytes(ROWS.slice(300))))
    return {"connector": "files", "path": "data/part-*"}


def bucket(place: Place, objects: dict[str, bytes], path: str) -> dict[str, Any]:
    endpoint = place.server("weed")
    prefix = f"rows/{uuid.uuid4().hex}"
    for name, body in objects.items():
        client(endpoint).put_object(Bucket="lake", Key=f"{prefix}/{name}", Body=body)
    place.secrets["ZEBRA_S3_ENDPOINT_URL"] = endpoint
    return {"connector": "files", "path": f"s3://lake/{prefix}/{path}"}


def s3_glob(place: Place) -> dict[str, Any]:
    halves = {"a.csv": csv_bytes(ROWS.slice(0, 200)), "b.csv.gz": gzip.compress(csv_bytes(ROWS.slice(200))), ".unfinished": b"?"}
    return bucket(place, halves, "*")


def s3_parquet(place: Place) -> dict[str, Any]:
    sink = pa.BufferOutputStream()
    pq.write_table(ROWS, sink)
    return bucket(place, {"rows.parquet": sink.getvalue().to_pybytes()}, "rows.parquet")


def sqlite(fast: str) -> Source:
    def put(place: Place) -> dict[str, Any]:
        write_sqlite(place.bench.folder / "data" / "shop.db", ROWS)
        return sql(f"sqlite:///data/shop.db?zebra_fast={fast}")

    return put


def postgres(fast: str) -> Source:
    def put(place: Place) -> dict[str, Any]:
        url = f"{place.server('postgres')}/postgres".replace("postgresql", "postgresql+psycopg2")
        types = 'id text, amount numeric, visits int, name text, member bool, born date, seen timestamptz, "left" text'
        fill(url, types, ROWS.to_pylist())
        return sql(f"{url}?zebra_fast={fast}")

    return put


def maria(place: Place) -> dict[str, Any]:
    url = place.server("mariadb")
    types = "id varchar(9), amount decimal(12,4), visits int, name text, member bool, born date, seen datetime(6), `left` text"
    fill(url, types, [row | {"seen": row["seen"].replace(tzinfo=None)} for row in ROWS.to_pylist()])
    return sql(url)


def fill(url: str, types: str, rows: list[dict[str, Any]]) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("drop table if exists people"))
        connection.execute(sa.text(f"create table people ({types})"))
        connection.execute(sa.text("insert into people values (:id,:amount,:visits,:name,:member,:born,:seen,:left)"), rows)
    engine.dispose()


def sql(url: str) -> dict[str, Any]:
    return {"connector": "sql", "url": url, "query": SELECT, "parameters": {"least": 0}}


def http_csv(place: Place) -> dict[str, Any]:
    web: Web = place.server("web")
    web.gives("/rows.csv", csv_bytes(ROWS), Content_Type="text/csv")
    place.secrets["ZEBRA_HTTP_ALLOW_PRIVATE"] = web.place
    return web.source("/rows.csv")


def http_pages(place: Place) -> dict[str, Any]:
    web: Web = place.server("web")
    rows = [{name: plain(cell) for name, cell in row.items()} for row in ROWS.to_pylist()]

    def page(handler: Handler) -> None:
        number = int(handler.query("page"))
        handler.give(json.dumps({"rows": rows[(number - 1) * 150 : number * 150]}).encode())

    web.answers["/rows.json"] = page
    place.secrets["ZEBRA_HTTP_ALLOW_PRIVATE"] = web.place
    return web.source("/rows.json", records="rows", paging="page")


SOURCES: dict[str, Source] = {
    "files csv": lambda place: place.file("a.csv", csv_bytes(ROWS)),
    "files tsv": lambda place: place.file("a.tsv", csv_bytes(ROWS, "\t")),
    "files csv.gz": lambda place: place.file("a.csv.gz", gzip.compress(csv_bytes(ROWS))),
    "files csv.zst": lambda place: place.file("a.csv.zst", zstandard.compress(csv_bytes(ROWS))),
    "files jsonl": lambda place: place.file("a.jsonl", jsonl_bytes(ROWS)),
    "files jsonl.zst": lambda place: place.file("a.jsonl.zst", zstandard.compress(jsonl_bytes(ROWS))),
    "files parquet": lambda place: place.table("a.parquet", lambda path: pq.write_table(ROWS, path)),
    "files arrow": lambda place: place.table("a.arrow", lambda path: write_arrow(path, ROWS, pa.ipc.new_file)),
    "files glob of parts": parts,
    "files s3://, glob": s3_glob,
    "files s3://, parquet": s3_parquet,
    "sql SQLite, row by row": sqlite("off"),
    "sql SQLite, ADBC": sqlite("on"),
    "sql Postgres, row by row": postgres("off"),
    "sql Postgres, ADBC": postgres("on"),
    "sql MariaDB": maria,
    "http CSV": http_csv,
    "http JSON in pages": http_pages,
}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, str]]:
    """Manifest ids by source, printed as a table when all are there."""
    ids: dict[str, str] = {}
    yield ids
    print("\nsource                      rows  seconds  manifest", *ids.values(), sep="\n")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of the rows as they are, by way of Parquet."""
    bench = Bench(tmp_path_factory.mktemp("expected") / "project")
    pq.write_table(ROWS, bench.folder / "data" / "rows.parquet")
    return bench.ingest().manifest.id


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_rows_from_everywhere_are_one_manifest(
    name: str, bench: Bench, request: pytest.FixtureRequest, table: dict[str, str], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place = Place(bench, request.getfixturevalue)
    source = SOURCES[name](place)
    began = time.perf_counter()
    done = bench.ingest(recipe(source=source), **place.secrets)
    table[name] = f"{name:26}{done.manifest.stats.rows:6}{time.perf_counter() - began:9.2f}  {done.manifest.id}"
    assert done.manifest.id == expected
    assert done.manifest.source.connector == source["connector"]
    assert ("read row by row" in caplog.text) == (name == "sql MariaDB"), "the way taken is the one named"
