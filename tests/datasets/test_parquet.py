"""How rows are stored: by what suits each column, and read back by anybody as they were."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.conftest import people, recipe
from zebra_assets.datasets.parquet import coded, encoded
from zebra_assets.datasets.sketches import ROOM, Frequent
from zebra_assets.datasets.table import schema_of


def rows(count: int = 3000) -> pa.Table:
    return people(count).cast(schema_of(recipe()))


def test_what_is_stored_reads_back_the_same_and_in_duckdb_too(tmp_path: object) -> None:
    table = rows()
    raw = encoded(coded(table), recipe())
    assert pq.read_table(pa.BufferReader(raw)).equals(table)
    (tmp_path / "a.parquet").write_bytes(raw)  # type: ignore[operator]
    with duckdb.connect() as base:
        found = base.sql(f"SELECT * FROM '{tmp_path}/a.parquet'").to_arrow_table()
    assert found.cast(table.schema).equals(table)


def test_equal_rows_are_equal_bytes() -> None:
    assert encoded(coded(rows()), recipe()).equals(encoded(coded(rows()), recipe()))


def test_a_split_of_a_block_is_stored_as_if_it_had_never_been_beside_the_others() -> None:
    names = [["anna", "bert", "carla"], ["dora", None, "emil"]]
    table = rows(6000).set_column(3, pa.field("name", pa.string()), [[names[n % 2][n % 3] for n in range(6000)]])
    spec = recipe(columns=recipe().model_dump()["columns"] | {"name": {"dtype": "string", "nullable": True}})
    one = pa.array([n % 2 == 0 for n in range(6000)])
    assert pa.types.is_dictionary(coded(table).schema.field("name").type)
    raw = encoded(coded(table).filter(one), spec)
    assert raw.equals(encoded(coded(table.filter(one)), spec))
    assert b"anna" in bytes(raw) and b"emil" not in bytes(raw)
    assert pq.read_table(pa.BufferReader(raw)).equals(table.filter(one))


def test_the_key_takes_less_than_a_byte_a_row_and_says_its_smallest_and_largest() -> None:
    table = rows(60_000)
    meta = pq.read_metadata(pa.BufferReader(encoded(coded(table), recipe()))).row_group(0)
    key = next(meta.column(i) for i in range(meta.num_columns) if meta.column(i).path_in_schema == "id")
    assert key.total_compressed_size < table.num_rows
    assert (key.statistics.min, key.statistics.max) == (table["id"][0].as_py(), table["id"][-1].as_py())


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([f"{n * 2654435761 % 2**40:010x}" for n in range(3000)], "DELTA_LENGTH_BYTE_ARRAY"),
        ([f"order {n:06d}" for n in range(3000)], "DELTA_BYTE_ARRAY"),
        ([f"{n * 7919 % 3001} {'street' * (n % 3)}" for n in range(3000)], "PLAIN"),
        ([*[None] * 100, *(str(n) for n in range(3000))], "PLAIN"),
    ],
)
def test_text_that_does_not_repeat_is_kept_as_suits_it_and_reads_back(tmp_path: Path, texts: list[str | None], kept: str) -> None:
    table = rows(len(texts)).set_column(3, pa.field("name", pa.string()), [texts])
    spec = recipe(columns=recipe().model_dump()["columns"] | {"name": {"dtype": "string", "nullable": True}})
    raw = encoded(coded(table), spec)
    meta = pq.read_metadata(pa.BufferReader(raw)).row_group(0)
    column = next(meta.column(i) for i in range(meta.num_columns) if meta.column(i).path_in_schema == "name")
    assert kept in column.encodings
    assert pq.read_table(pa.BufferReader(raw))["name"].to_pylist() == texts
    (tmp_path / "a.parquet").write_bytes(raw)
    with duckdb.connect() as base:
        assert base.sql(f"SELECT name FROM '{tmp_path}/a.parquet'").to_arrow_table()["name"].to_pylist() == texts


@pytest.mark.parametrize("spread", [1, 900, 30_000, 10**9])
def test_rows_counted_by_their_hashes_come_to_what_their_different_values_come_to(spread: int) -> None:
    rng = np.random.default_rng(7)
    drawn = np.concatenate((rng.integers(0, spread, 40_000), rng.integers(0, 50, 5_000)))
    values = pa.array([f"value {n}" for n in drawn.tolist()])
    by_rows, by_values = Frequent(), Frequent()
    by_rows.add_rows(values)
    different, counts = values.value_counts().flatten()
    by_values.add(different, counts.to_numpy())
    assert by_rows.distinct() == by_values.distinct()
    assert by_rows.top(20) == by_values.top(20)
    assert by_rows.short() == by_values.short()
    assert spread < ROOM or by_rows.top(1)
