"""What a diff says of two manifests, against edits that were planted one by one."""

import random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.provenance import ManifestDiff
from zebra_assets.datasets.diff import Distance, Side, diff


def side(bench: Bench, table: pa.Table, spec: DatasetSpec | None = None) -> Side:
    bench.empty()
    bench.put("a.csv", csv_bytes(table))
    done = bench.ingest(spec)
    return Side(done.manifest, {a.split: bench.split(done, a.split) for a in done.manifest.artifacts})


def compare(before: Side, after: Side, sensitive: frozenset[str] = frozenset()) -> ManifestDiff:
    def none(a: ColumnStats, b: ColumnStats) -> Distance | None:
        return None

    return diff(before, after, sensitive=sensitive, distances=none)


def edited(table: pa.Table, row: int, **cells: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row] |= cells
    return pa.Table.from_pylist(rows, schema=table.schema)


def cells(found: ManifestDiff) -> dict[str, int | None]:
    return {c.name: c.cells for c in found.columns if c.cells}


def test_a_manifest_differs_in_nothing_from_itself(bench: Bench) -> None:
    one = side(bench, people())
    found = compare(one, one)
    assert found.same and (found.unchanged, found.examples, found.definitions) == (200, [], [])


def test_every_planted_edit_is_counted_once(bench: Bench) -> None:
    table = people(300)
    before = side(bench, table.slice(0, 250))
    later = edited(edited(table.slice(20), 5, visits=-1, amount=None), 9, visits=-2)
    found = compare(before, side(bench, later))
    assert (found.added, found.removed, found.changed, found.unchanged) == (50, 20, 2, 228)
    assert cells(found) == {"visits": 2, "amount": 1}
    assert found.moved == 0, "a row's split follows its key"
    kinds = [e.kind for e in found.examples]
    assert [kinds.count(kind) for kind in ("added", "removed", "changed")] == [5, 5, 2]
    changed = {e.key["id"]: e.cells for e in found.examples if e.kind == "changed"}
    assert changed == {"'p00025'": {"visits": ("75", "-1"), "amount": ("3.125", "null")}, "'p00029'": {"visits": ("87", "-2")}}


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_a_plain_dictionary_on_random_edits(bench: Bench, seed: int) -> None:
    rng, table = random.Random(seed), people(400)
    later = [row for row in table.to_pylist() if rng.random() > 0.1]
    for row in later:
        for name, value in (("amount", None), ("name", "Ada"), ("member", True), ("born", None), ("visits", 7)):
            if rng.random() < 0.05:
                row[name] = value
    after = pa.Table.from_pylist(later, schema=table.schema)
    old, new = ({row["id"]: row for row in t.to_pylist()} for t in (table.slice(0, 370), after))
    found = compare(side(bench, table.slice(0, 370)), side(bench, after))
    both = old.keys() & new.keys()
    expected = {n: sum(old[k][n] != new[k][n] for k in both) for n in table.column_names}
    assert (found.added, found.removed) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()))
    assert found.changed == sum(old[k] != new[k] for k in both)
    assert cells(found) == {n: count for n, count in expected.items() if count}


def test_without_a_key_equal_rows_cancel_out_one_by_one(bench: Bench) -> None:
    table, plain = people(100), recipe(key=[])
    twice = pa.concat_tables([table, table.slice(0, 3), table.slice(0, 3)])
    found = compare(side(bench, twice, plain), side(bench, edited(table, 50, visits=-1).slice(10), plain))
    assert (found.by, found.moved, found.changed) == ("row", None, 0)
    # 10 rows are gone, of which 3 stood there three times, and one was edited.
    assert (found.added, found.removed, found.unchanged) == (1, 10 + 6 + 1, 89)


def test_new_salt_moves_rows_and_new_columns_and_labels_are_told(bench: Bench) -> None:
    table = people()
    columns = {name: c.model_dump() for name, c in recipe().columns.items() if name != "born"}
    columns["visits"]["dtype"] = "float64"
    other = recipe(columns=columns, splits={"salt": "x"}, label={"column": "left", "type": "binary", "positive": "no"})
    found = compare(side(bench, table), side(bench, table.drop_columns(["born"]), other))
    assert (found.added, found.removed, found.changed) == (0, 0, 0) and found.moved
    assert [d.what for d in found.definitions] == ["label", "splits"] and not found.same
    told = {c.name: (c.before, c.after, c.cells) for c in found.columns if c.before != c.after}
    assert told == {"visits": ("int64", "float64", None), "born": ("date?", None, None)}


def test_sensitive_values_never_leave(bench: Bench) -> None:
    table = people()
    found = compare(side(bench, table), side(bench, edited(table, 3, name="Grace").slice(2)), frozenset({"id", "name"}))
    said = found.model_dump_json()
    assert "p000" not in said and "Grace" not in said and found.changed == 1
    assert found.examples[-1].cells == {"name": ("***", "***")}


def test_a_million_rows_are_compared_without_a_loop_over_rows(bench: Bench) -> None:
    import time

    n = 1_000_000
    table = people(1).take(pa.array([0] * n)).set_column(0, "id", pc.cast(pa.array(range(n)), pa.string()))
    template: Manifest = side(bench, people()).manifest
    later = table.slice(1_000).set_column(2, "visits", pa.array([*([5] * 100), *([0] * (n - 1_100))], pa.int64()))
    began = time.perf_counter()
    found = compare(Side(template, {"train": table}), Side(template, {"train": later}))
    assert (found.added, found.removed, found.changed) == (0, 1_000, 100)
    assert time.perf_counter() - began < 20  # some 1.5 s on a quiet core; a loop over rows takes minutes
