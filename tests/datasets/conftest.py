"""A bench for rows: a project folder with a real store, a recipe that uses every dtype, and writers for every format."""

import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.adapters.conftest import postgres as postgres  # the fixture
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.ingest import Ingested, ingest
from zebra_assets.datasets.table import schema_of

COLUMNS: dict[str, Any] = {
    "id": {"dtype": "string"},
    "amount": {"dtype": "float64", "nullable": True},
    "visits": {"dtype": "int64"},
    "name": {"dtype": "string", "nullable": True},
    "member": {"dtype": "bool"},
    "born": {"dtype": "date", "nullable": True},
    "seen": {"dtype": "timestamp"},
    "left": {"dtype": "string"},
}
NAMES = ["Zoë", "名前", 'O\'Neil, "Bo"', "line\nbreak", " spaced ", "🦓", "NA", "null"]


def recipe(**changes: Any) -> DatasetSpec:
    """A recipe over COLUMNS; keyword arguments replace its parts."""
    parts: dict[str, Any] = {
        "name": "people",
        "source": {"connector": "files", "path": "data/*"},
        "columns": COLUMNS,
        "key": ["id"],
        "label": {"column": "left", "type": "binary", "positive": "yes"},
    }
    return DatasetSpec.model_validate(parts | changes)


def people(n: int = 200) -> pa.Table:
    """Real-looking rows in key order, with nulls, unicode, quotes and line breaks."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {
            "id": f"p{i:05d}",
            "amount": None if i % 11 == 0 else i / 8,
            "visits": i * 3,
            "name": None if i % 7 == 0 else NAMES[i % len(NAMES)],
            "member": i % 3 == 0,
            "born": None if i % 13 == 0 else date(1950, 1, 1) + timedelta(days=i),
            "seen": at + timedelta(hours=i, microseconds=i),
            "left": "yes" if i % 4 == 0 else "no",
        }
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([f.with_nullable(True) for f in schema_of(recipe())]))


def plain(value: Any) -> Any:
    """A cell as text formats write it."""
    return value.isoformat() if isinstance(value, date) else value


def csv_bytes(table: pa.Table, delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(table.column_names)
    writer.writerows([plain(v) for v in row.values()] for row in table.to_pylist())
    return out.getvalue().encode()


def jsonl_bytes(table: pa.Table) -> bytes:
    rows = ({k: plain(v) for k, v in row.items() if v is not None} for row in table.to_pylist())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@dataclass
class Bench:
    """A project folder and its store."""

    folder: Path
    stages: list[tuple[str, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "data").mkdir(parents=True)
        self.open()

    def open(self) -> None:
        self.store = open_store((self.folder / "objects").as_uri(), cache=self.folder / "cache")
        self.manifests = ManifestFolder(self.folder / "manifests", self.store)

    def put(self, name: str, content: bytes) -> Path:
        path = self.folder / "data" / name
        path.write_bytes(content)
        return path

    def empty(self) -> None:
        for path in (self.folder / "data").iterdir():
            path.unlink()

    def ingest(self, spec: DatasetSpec | None = None, **secrets: str) -> Ingested:
        return ingest(
            spec or recipe(),
            project=self.folder,
            store=self.store,
            manifests=self.manifests,
            secrets=secrets,
            progress=lambda stage, rows: self.stages.append((stage, rows)),
        )

    def files(self) -> set[str]:
        """Everything that rests on disk, except the source and what may be forgotten."""
        found = (p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        return {f for f in found if not f.startswith(("data/", ".zebraops/cache/"))}

    def rows(self, done: Ingested) -> pa.Table:
        """All splits' rows, in key order."""
        return self.rows_by_key(done, "id")

    def rows_by_key(self, done: Ingested, key: str) -> pa.Table:
        """All splits' rows, ordered by ``key``."""
        return pa.concat_tables(self.split(done, name) for name in done.manifest.split_names()).sort_by(key)

    def split(self, done: Ingested, name: str) -> pa.Table:
        """One split's rows."""
        return pq.read_table([self.store.fetch(a.key) for a in done.manifest.blobs(name)])

    def splits(self, done: Ingested, key: str) -> dict[str, str]:
        """Each key's split."""
        return {row: name for name in done.manifest.split_names() for row in self.split(done, name)[key].to_pylist()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "project")


def write_sqlite(path: Path, table: pa.Table) -> None:
    with sqlite3.connect(path) as db:
        db.execute("create table people (id text, amount real, visits integer, name text, member integer, born text, seen text, left text)")
        db.executemany("insert into people values (?,?,?,?,?,?,?,?)", [[plain(v) for v in row.values()] for row in table.to_pylist()])
    db.close()


def write_arrow(path: Path, table: pa.Table, opener: Callable[..., Any]) -> None:
    with pa.OSFile(str(path), "wb") as sink, opener(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=37)


def formats(bench: Bench, table: pa.Table) -> Iterator[tuple[str, DatasetSpec]]:
    """Write ``table`` in one format after the other; yields a label and the recipe that reads it."""
    odd = table.set_column(0, "id", table["id"].cast(pa.large_string())).set_column(7, "left", table["left"].dictionary_encode())
    written: dict[str, Callable[[str], Any]] = {
        "rows.csv": lambda f: bench.put(f, csv_bytes(table)),
        "rows.csv.gz": lambda f: bench.put(f, gzip.compress(csv_bytes(table))),
        "bom.csv": lambda f: bench.put(f, b"\xef\xbb\xbf" + csv_bytes(table).replace(b"\r\n", b"\n")),
        "rows.tsv": lambda f: bench.put(f, csv_bytes(table, "\t")),
        "rows.jsonl": lambda f: bench.put(f, jsonl_bytes(table)),
        "rows.jsonl.gz": lambda f: bench.put(f, gzip.compress(jsonl_bytes(table))),
        "rows.parquet": lambda f: pq.write_table(table, bench.folder / "data" / f),
        "odd.parquet": lambda f: pq.write_table(odd, bench.folder / "data" / f, row_group_size=19, compression="gzip"),
        "reordered.parquet": lambda f: pq.write_table(table.select(table.column_names[::-1]), bench.folder / "data" / f),
        "file.arrow": lambda f: write_arrow(bench.folder / "data" / f, odd, pa.ipc.new_file),
        "stream.arrow": lambda f: write_arrow(bench.folder / "data" / f, table, pa.ipc.new_stream),
    }
    for name, write in written.items():
        bench.empty()
        write(name)
        yield name, recipe()
    bench.empty()
    write_sqlite(bench.folder / "data" / "shop.db", table)
    yield "sqlite", recipe(source={"connector": "sql", "url": "sqlite:///data/shop.db", "query": "SELECT * FROM people"})
