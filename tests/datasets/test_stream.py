"""Blocks and order: however rows come, the blocks are the same; however many there are, few are held."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import people
from zebra_assets.datasets import stream
from zebra_assets.datasets.order import Replay, in_order
from zebra_assets.datasets.stream import Block, OutOfOrder, ascending, blocks
from zebra_assets.errors import DataInvalid


def batches_of(table: pa.Table, cuts: list[int]) -> list[pa.RecordBatch]:
    places = sorted({0, table.num_rows, *(c % (table.num_rows + 1) for c in cuts)})
    parts = [table.slice(a, b - a).combine_chunks() for a, b in pairwise(places)]
    return [batch for part in parts for batch in part.to_batches()]


def together(found: list[Block]) -> pa.Table:
    return pa.concat_tables(b.rows for b in found).combine_chunks()


@given(st.lists(st.integers(0, 10_000), max_size=8), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_blocks_do_not_depend_on_how_batches_were_cut(cuts: list[int], size: int) -> None:
    table = people(200)
    found = list(blocks(batches_of(table, cuts), ["id"], rows=size))
    assert together(found).equals(table.combine_chunks())
    assert [b.rows.num_rows for b in found[:-1]] == [size] * (len(found) - 1)
    assert [b.first_row for b in found] == [i * size for i in range(len(found))]
    befores = [None if b.before is None else b.before["id"][0].as_py() for b in found]
    assert befores == [None, *(b.rows["id"][-1].as_py() for b in found[:-1])]


@pytest.mark.parametrize(
    ("rows", "width", "fits"), [(30, 30 << 10, True), (40, 30 << 10, False), (200, 15 << 10, True), (200, 17 << 10, False)]
)
def test_wide_rows_are_taken_while_they_are_few(rows: int, width: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FREE_BYTES", 1 << 20)
    found = blocks([pa.record_batch({"x": [str(i % 10) * width]}) for i in range(rows)], [])
    if fits:
        assert sum(b.rows.num_rows for b in found) == rows
    else:
        with pytest.raises(DataInvalid, match="more than 16 KB each"):
            list(found)


@pytest.mark.parametrize("at", [1, 63, 64, 65, 199])
def test_a_row_below_its_neighbour_is_noticed_inside_a_block_and_across_the_border(at: int) -> None:
    table = people(200)
    order = list(range(200))
    order[at - 1], order[at] = order[at], order[at - 1]
    with pytest.raises(OutOfOrder):
        list(blocks(table.take(order).to_batches(), ["id"], rows=64))


def test_equal_keys_and_several_key_columns_are_in_order() -> None:
    keys = pa.table({"a": [1, 1, 1, 2], "b": ["x", "y", "y", "a"]})
    assert ascending(keys, ["a", "b"])
    assert not ascending(keys, ["b", "a"])
    assert ascending(pa.table({"a": pa.array([], pa.int64())}), ["a"])


@given(st.permutations(range(150)), st.booleans())
@settings(max_examples=25, deadline=None)
def test_rows_are_sorted_alike_in_memory_and_on_disk_and_know_where_they_came_from(order: list[int], disk: bool) -> None:
    table = people(150)
    shuffled = table.take(order)
    with_disk = {"in_memory": 0} if disk else {}
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        ordered = in_order(iter(shuffled.to_batches(max_chunksize=40)), ["id"], Path(scratch), **with_disk)
        found = list(blocks(ordered, ["id"], positions=True, rows=64))
    assert together(found).equals(table.combine_chunks())
    came = np.concatenate([np.asarray(b.came_from.to_pylist()) for b in found if b.came_from is not None])
    assert [order[i] for i in came] == list(range(150))


def test_on_disk_text_is_ordered_by_its_bytes_and_every_dtype_survives() -> None:
    from datetime import UTC, date, datetime

    texts = ["ä", "z", "Z", "", "a\x00b", "日本", "a", "🦓"]
    table = pa.table(
        {
            "k": texts,
            "f": pa.array([float("nan"), -0.0, None, 1.5, float("inf"), -1.0, 2.0, 3.0]),
            "b": pa.array([True, None, False, True, True, False, None, True]),
            "d": pa.array([date(1, 1, 1), None, date(9999, 12, 31), *[date(2026, 1, 1)] * 5]),
            "t": pa.array(
                [datetime(1, 1, 1, tzinfo=UTC), None, *[datetime(2026, 10, 25, 1, 30, tzinfo=UTC)] * 6], pa.timestamp("us", tz="UTC")
            ),
            "i": pa.array([-(2**63), 2**63 - 1, None, 0, 1, 2, 3, 4]),
        }
    )
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        disk = pa.Table.from_batches(in_order(iter(table.to_batches()), ["k"], Path(scratch), in_memory=0))
        memory = pa.Table.from_batches(in_order(iter(table.to_batches()), ["k"], Path(scratch)))
    assert disk["k"].to_pylist() == sorted(texts, key=str.encode)
    assert disk.schema == memory.schema
    assert str(disk.to_pylist()) == str(memory.to_pylist())  # text, because NaN is not NaN


def test_a_small_source_is_replayed_and_a_large_one_is_not_remembered() -> None:
    batches = people(200).to_batches(max_chunksize=50)
    small = Replay(iter(batches))
    first = next(iter(small))
    assert pa.Table.from_batches(list(small.again() or [])).equals(people(200)) and first.num_rows == 50
    large = Replay(iter(batches), most=batches[0].nbytes)
    list(large)
    assert large.again() is None
