"""One content, one id: whatever the file, the order, the chunks; and another id for anything that matters."""

import hashlib
import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, formats, people, recipe
from zebra_assets.contracts.manifest import content_of
from zebra_assets.datasets.blocks import block_digests
from zebra_assets.datasets.dtypes import ARROW
from zebra_assets.datasets.table import Caster, arrange


def test_the_same_rows_from_every_format_are_one_manifest(bench: Bench) -> None:
    first = None
    for label, spec in formats(bench, people()):
        done = bench.ingest(spec)
        first = first or done
        assert (label, done.manifest.id) == (label, first.manifest.id)
        assert done.created == (done is first), label
    assert first is not None
    assert len(bench.manifests.list("people")) == 1
    assert bench.rows(first).to_pylist() == people().to_pylist()


def test_shuffled_rows_and_rows_over_several_files_are_the_same_manifest(bench: Bench) -> None:
    table = people()
    bench.put("a.csv", csv_bytes(table))
    first = bench.ingest()
    bench.put("a.csv", csv_bytes(table.take(np.random.default_rng(7).permutation(len(table)))))
    assert bench.ingest().manifest.id == first.manifest.id
    bench.put("a.csv", csv_bytes(table.slice(120)))
    bench.put("b.csv", csv_bytes(table.slice(0, 120)))
    assert bench.ingest().manifest.id == first.manifest.id


def test_without_a_key_the_order_of_rows_is_part_of_the_content(bench: Bench) -> None:
    table, spec = people(), recipe(key=[])
    bench.put("a.csv", csv_bytes(table))
    first = bench.ingest(spec)
    bench.put("a.csv", csv_bytes(table.slice(1)) + csv_bytes(table.slice(0, 1)).split(b"\r\n", 1)[1])
    assert bench.ingest(spec).manifest.id != first.manifest.id


CHANGES: dict[str, Any] = {
    "dtype": {"columns": COLUMNS | {"visits": {"dtype": "float64"}}},
    "nullable": {"columns": COLUMNS | {"visits": {"dtype": "int64", "nullable": True}}},
    "label definition": {"label": {"column": "left", "type": "binary", "positive": "no"}},
    "no label": {"label": None},
    "split fraction": {"splits": {"fractions": {"train": 0.8, "valid": 0.1, "test": 0.1}}},
    "split salt": {"splits": {"salt": "x"}},
    "key": {"key": ["id", "visits"]},
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_definition_of_the_same_rows_is_another_manifest(bench: Bench, what: str) -> None:
    bench.put("a.csv", csv_bytes(people()))
    assert bench.ingest(recipe(**CHANGES[what])).manifest.id != bench.ingest().manifest.id


@pytest.mark.parametrize("column", ["id", "amount", "visits", "name", "member", "born", "seen", "left"])
def test_one_changed_cell_is_another_manifest(bench: Bench, column: str) -> None:
    table = people()
    cells = table[column].to_pylist()
    cells[100] = cells[101] if column != "id" else "p99999"
    if cells[100] == table[column][100].as_py():
        cells[100] = {"member": not cells[100], "left": "yes" if cells[100] == "no" else "no"}[column]
    changed = table.set_column(table.column_names.index(column), column, pa.array(cells, table.schema.field(column).type))
    pq.write_table(table, bench.put("a.parquet", b""))
    first = bench.ingest()
    pq.write_table(changed, bench.put("a.parquet", b""))
    assert bench.ingest().manifest.id != first.manifest.id


def test_what_does_not_change_the_content_does_not_change_the_id(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    first = bench.ingest()
    described = COLUMNS | {"visits": {"dtype": "int64", "min": 0, "description": "since January"}}
    spec = recipe(columns=described, owner="team:growth", sensitive=["name"], expectations={"min_rows": 10}, schedule="0 1 * * *")
    assert bench.ingest(spec).manifest.id == first.manifest.id


def test_the_encoding_of_blocks_never_changes() -> None:
    """These digests may never change, or every committed manifest would lose its rows."""
    table = people(100)
    assert block_digests(table, block_rows=40, algorithm="zebra-rows-v1") == [
        "cebc627e043a8681837a12f54763603cb2c7336876c1a21e1afc903c835e305c",
        "ca8a9992e4325fb1b25188bcb0cb4609aba572787030e2fd3b9a59846adffb54",
        "c78e9246f5916cc88984be44ffa681f583b6e74d03097a639915f16c16b82fa8",
    ]
    assert block_digests(table, block_rows=40, algorithm="zebra-rows-v2") == [
        "a5028f3f6087188f1c58da537912a387509edbf01b76630672eb016b486b4284",
        "63ae9fb125fa7223a021f515f83ca0550728bae47ff30d42f598ef50f381f981",
        "80eee77d7c3a4f6eabef3523832eb6da2ddbaff9a25ba3911113e257c957d703",
    ]
    assert block_digests(table.slice(0, 0)) == []


cells = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(),
    "string": st.text(st.characters(codec="utf-8"), max_size=12),
    "bool": st.booleans(),
    "date": st.dates(),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 60))
    columns = {
        f"{dtype}_column": pa.array(draw(st.lists(st.none() | cells[dtype], min_size=rows, max_size=rows)), ARROW[dtype])
        for dtype in draw(st.lists(st.sampled_from(sorted(cells)), min_size=1, max_size=5, unique=True))
    }
    return pa.table(columns)


@settings(max_examples=60, deadline=None)
@given(table=tables(), cuts=st.lists(st.integers(0, 60), max_size=6), block_rows=st.sampled_from([7, 16, 64]))
def test_no_chunking_slicing_or_encoding_leaves_a_trace(table: pa.Table, cuts: list[int], block_rows: int) -> None:
    whole = block_digests(table, block_rows=block_rows)
    padded = pa.concat_tables([table.slice(0, 1), table]).slice(1)
    edges = sorted({0, table.num_rows, *(c for c in cuts if c < table.num_rows)})
    chunked = pa.concat_tables([padded.slice(a, b - a) for a, b in pairwise(edges)])
    assert block_digests(chunked, block_rows=block_rows) == whole
    assert block_digests(chunked.combine_chunks(), block_rows=block_rows) == whole
    for name in table.column_names:
        if table[name].type == pa.string():
            at = table.column_names.index(name)
            for other in (table[name].cast(pa.large_string()), chunked[name].dictionary_encode()):
                assert block_digests(table.set_column(at, name, other), block_rows=block_rows) == whole


def slow_digests(table: pa.Table) -> tuple[str, str]:
    """zebra-rows v1 and v2 of one block, cell by cell, from their description alone."""
    out = struct.pack("<Q", table.num_rows)
    for column in table.columns:
        values = column.to_pylist()
        out += bytes([{"int64": 1, "double": 2, "string": 3, "bool": 4, "date32[day]": 5}[str(column.type)]])
        out += _packed([v is not None for v in values])
        if column.type == pa.string():
            raw = [(v or "").encode() for v in values]
            out += b"".join(struct.pack("<I", len(r)) for r in raw) + b"".join(raw)
        elif column.type == pa.bool_():
            out += _packed([bool(v) for v in values])
        elif column.type == pa.float64():
            out += b"".join(
                struct.pack("<Q", 0x7FF8 << 48) if v is not None and math.isnan(v) else struct.pack("<d", (v or 0) + 0.0) for v in values
            )
        elif column.type == pa.date32():
            out += b"".join(struct.pack("<i", (v - date(1970, 1, 1)).days if v else 0) for v in values)
        else:
            out += b"".join(struct.pack("<q", v or 0) for v in values)
    return hashlib.sha256(out).hexdigest(), blake3(out).hexdigest()


def _packed(truth: list[bool]) -> bytes:
    return bytes(sum(bit << i for i, bit in enumerate(truth[at : at + 8])) for at in range(0, len(truth), 8))


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_the_fast_encoding_is_the_described_one(table: pa.Table) -> None:
    assert (*block_digests(table, algorithm="zebra-rows-v1"), *block_digests(table)) == slow_digests(table)


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=50, unique=True), seed=st.randoms())
def test_canonical_order_is_the_order_of_utf8_bytes(ids: list[str], seed: Any) -> None:
    table = pa.table({"id": pa.array(ids, pa.string())})
    expected = sorted(ids, key=lambda s: s.encode())
    assert arrange(table, ["id"])[0]["id"].to_pylist() == expected
    seed.shuffle(ids)
    assert arrange(pa.table({"id": pa.array(ids, pa.string())}), ["id"])[0]["id"].to_pylist() == expected


def test_a_sorted_table_is_not_sorted_again() -> None:
    table = people()
    assert arrange(table, ["id"])[1] is None
    assert arrange(table, ["born", "id"])[1] is not None


def _float_tables() -> Iterator[list[float | None]]:
    yield [0.0, float("nan"), 1.5, None]
    yield [-0.0, np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0], 1.5, None]


def test_one_nan_and_one_zero_have_one_encoding_and_null_is_another_cell() -> None:
    one, other = (
        pa.table({"x": pa.array(np.array([0.0 if v is None else v for v in values]), mask=np.array([v is None for v in values]))})
        for values in _float_tables()
    )
    assert np.signbit(other["x"][0].as_py())
    assert block_digests(one) == block_digests(other)
    assert block_digests(one) != block_digests(pa.table({"x": pa.array([0.0, None, 1.5, None])}))
    assert block_digests(pa.table({"x": pa.array([float("inf")])})) != block_digests(pa.table({"x": pa.array([float("-inf")])}))


def test_bytes_hidden_behind_nulls_are_not_part_of_the_content() -> None:
    numbers = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([5, 77], "<i8").tobytes())])
    assert block_digests(pa.table({"x": numbers})) == block_digests(pa.table({"x": pa.array([5, None], pa.int64())}))
    offsets = pa.py_buffer(np.array([0, 1, 4], "<i4").tobytes())
    text = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\x01"), offsets, pa.py_buffer(b"asec")])
    assert block_digests(pa.table({"x": text})) == block_digests(pa.table({"x": pa.array(["a", None])}))


def test_cells_cannot_move_between_neighbours_unnoticed() -> None:
    tables_ = [
        pa.table({"a": ["ab", "c"]}),
        pa.table({"a": ["a", "bc"]}),
        pa.table({"a": ["abc", ""]}),
        pa.table({"a": pa.array(["abc", None])}),
        pa.table({"a": ["ab"], "b": ["c"]}),
        pa.table({"a": ["a"], "b": ["bc"]}),
    ]
    assert len({tuple(block_digests(t)) for t in tables_}) == len(tables_)


def test_an_edited_column_is_noticed_by_the_content_digest_alone(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    manifest = bench.ingest().manifest
    said = manifest.hashes
    again = content_of(manifest.columns, manifest.splits, rows=manifest.stats.rows, blocks=said.blocks, block_rows=said.block_rows)
    assert (again, said.algorithm) == (said.content, "zebra-rows-v2")
    assert manifest.id == f"people-{said.content[:16]}"


def test_blocks_are_hashed_alike_in_another_process(bench: Bench) -> None:
    """Hash seeds, threads and import order of a process play no part."""
    bench.put("a.csv", csv_bytes(people()))
    here = bench.ingest().manifest.id
    code = (
        "import sys; from pathlib import Path; from tests.datasets.conftest import Bench\n"
        "b = Bench.__new__(Bench); b.folder = Path(sys.argv[1]); b.stages = []\n"
        "import json; from zebra_assets.datasets.ingest import read_source; from tests.datasets.conftest import recipe\n"
        "from zebra_assets.datasets.blocks import block_digests\n"
        "print(json.dumps(block_digests(read_source(recipe(), project=b.folder))))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(bench.folder)], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert json.loads(out.stdout) == bench.manifests.get(here).hashes.blocks


def test_casting_batch_by_batch_is_casting_at_once() -> None:
    table = people().cast(pa.schema([f.with_type(pa.string()) if f.name in ("id", "name") else f for f in people().schema]))
    caster = Caster(recipe())
    parts = [caster.cast(b) for b in table.to_batches(max_chunksize=17)]
    assert block_digests(pa.Table.from_batches(parts)) == block_digests(table)
