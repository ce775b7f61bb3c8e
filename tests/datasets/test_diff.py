"""What a diff says of two manifests, against edits that were planted one by one."""

import random
import time
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Artifact, Manifest
from zebra_assets.contracts.provenance import ManifestDiff
from zebra_assets.datasets.diff import diff
from zebra_assets.drift.binning import compare as compare_values
from zebra_assets.drift.metrics import psi
from zebra_assets.errors import Refused
from zebra_assets.loop.provenance import distance


def side(bench: Bench, table: pa.Table, spec: DatasetSpec | None = None) -> Manifest:
    bench.empty()
    bench.put("a.csv", csv_bytes(table))
    return bench.ingest(spec).manifest


def compare(bench: Bench, before: Manifest, after: Manifest, sensitive: frozenset[str] = frozenset()) -> ManifestDiff:
    return diff(before, after, bench.store, sensitive=sensitive, distances=distance)


def edited(table: pa.Table, row: int, **cells: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row] |= cells
    return pa.Table.from_pylist(rows, schema=table.schema)


def cells(found: ManifestDiff) -> dict[str, int | None]:
    return {c.name: c.cells for c in found.columns if c.cells}


def test_a_manifest_differs_in_nothing_from_itself(bench: Bench) -> None:
    one = side(bench, people())
    found = compare(bench, one, one)
    assert found.same and (found.unchanged, found.examples, found.definitions) == (200, [], [])


def test_every_planted_edit_is_counted_once(bench: Bench) -> None:
    table = people(300)
    before = side(bench, table.slice(0, 250))
    later = edited(edited(table.slice(20), 5, visits=-1, amount=None), 9, visits=-2)
    found = compare(bench, before, side(bench, later))
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
    found = compare(bench, side(bench, table.slice(0, 370)), side(bench, after))
    both = old.keys() & new.keys()
    expected = {n: sum(old[k][n] != new[k][n] for k in both) for n in table.column_names}
    assert (found.added, found.removed) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()))
    assert found.changed == sum(old[k] != new[k] for k in both)
    assert cells(found) == {n: count for n, count in expected.items() if count}


def test_without_a_key_equal_rows_cancel_out_one_by_one(bench: Bench) -> None:
    table, plain = people(100), recipe(key=[])
    twice = pa.concat_tables([table, table.slice(0, 3), table.slice(0, 3)])
    found = compare(bench, side(bench, twice, plain), side(bench, edited(table, 50, visits=-1).slice(10), plain))
    assert (found.by, found.moved, found.changed) == ("row", None, 0)
    # 10 rows are gone, of which 3 stood there three times, and one was edited.
    assert (found.added, found.removed, found.unchanged) == (1, 10 + 6 + 1, 89)


def test_new_salt_moves_rows_and_new_columns_and_labels_are_told(bench: Bench) -> None:
    table = people()
    columns = {name: c.model_dump() for name, c in recipe().columns.items() if name != "born"}
    columns["visits"]["dtype"] = "float64"
    other = recipe(columns=columns, splits={"salt": "x"}, label={"column": "left", "type": "binary", "positive": "no"})
    found = compare(bench, side(bench, table), side(bench, table.drop_columns(["born"]), other))
    assert (found.added, found.removed, found.changed) == (0, 0, 0) and found.moved
    assert [d.what for d in found.definitions] == ["label", "splits"] and not found.same
    told = {c.name: (c.before, c.after, c.cells) for c in found.columns if c.before != c.after}
    assert told == {"visits": ("int64", "float64", None), "born": ("date?", None, None)}


def test_sensitive_values_never_leave(bench: Bench) -> None:
    table = people()
    found = compare(bench, side(bench, table), side(bench, edited(table, 3, name="Grace").slice(2)), frozenset({"id", "name"}))
    said = found.model_dump_json()
    assert "p000" not in said and "Grace" not in said and found.changed == 1
    assert found.examples[-1].cells == {"name": ("***", "***")}


def parts(bench: Bench, like: Manifest, table: pa.Table, rows: int) -> Manifest:
    """A manifest of ``table``, dealt to train and valid in turn in blobs of so many rows: as a stream of blocks leaves it."""
    blobs = []
    for number, start in enumerate(range(0, table.num_rows, rows)):
        file = bench.folder / "part.parquet"
        pq.write_table(table.slice(start, rows), file)
        digest, split = file_digest(file), ("train", "valid")[number % 2]
        key = f"blobs/sha256/{digest[:2]}/{digest}.parquet"
        uri = bench.store.put(key, file)
        count = min(rows, table.num_rows - start)
        blobs.append(Artifact(split=split, key=key, uri=uri, digest=digest, bytes=file.stat().st_size, rows=count))
    return like.model_copy(update={"artifacts": blobs})


@pytest.mark.parametrize("key", [["id"], []], ids=["by key", "by row"])
@pytest.mark.parametrize(("rows_before", "rows_after"), [(1000, 1000), (37, 911), (7, 400)])
def test_into_how_many_blobs_rows_were_cut_changes_nothing(bench: Bench, key: list[str], rows_before: int, rows_after: int) -> None:
    table = people(400)
    later = edited(edited(table.slice(20), 5, visits=-1, amount=None), 300, name="Ada")
    like = side(bench, table, recipe(key=key))
    found = compare(bench, parts(bench, like, table.slice(0, 390), rows_before), parts(bench, like, later, rows_after))
    counts = (found.added, found.removed, found.changed, found.unchanged)
    assert counts == ((10, 20, 2, 368) if key else (12, 22, 0, 368))
    assert {e.kind: e.key["id"] for e in found.examples if e.kind != "changed"}.keys() == {"added", "removed"}


@pytest.mark.parametrize("key", [["born", "id"], ["seen"], ["member", "visits", "id"], ["visits"]])
def test_keys_of_every_dtype_meet(bench: Bench, key: list[str]) -> None:
    columns = {**recipe().model_dump()["columns"], "born": {"dtype": "date"}}
    table = people(300).set_column(5, "born", pa.array([date(1900, 1, 1) + timedelta(days=i // 40) for i in range(300)]))
    spec = recipe(key=key, columns=columns)
    found = compare(bench, side(bench, table.slice(0, 280), spec), side(bench, table.slice(10), spec))
    assert (found.added, found.removed, found.changed, found.unchanged, found.moved) == (20, 10, 0, 270, 0)


def test_rows_out_of_order_are_refused_not_miscounted(bench: Bench) -> None:
    table = people(100)
    like = side(bench, table)
    with pytest.raises(Refused, match="do not stand in the order of their key"):
        compare(bench, like, parts(bench, like, table.sort_by([("id", "descending")]), 1000))


def test_psi_is_that_of_the_rows_not_of_two_summaries(bench: Bench) -> None:
    """Against numpy over the older manifest's own deciles, for a shift that lies in the tail."""
    rng = np.random.default_rng(3)
    before, after = rng.lognormal(0, 1, 20_000), rng.lognormal(0.5, 1.5, 20_000)
    found = []
    for values in (before, after):
        table = people(1).take(pa.array([0] * 20_000)).set_column(0, "id", pa.array([f"p{i:05d}" for i in range(20_000)]))
        found.append(side(bench, table.set_column(1, "amount", pa.array(values))))
    told = next(c for c in compare(bench, *found).columns if c.name == "amount")
    stats = found[0].stats.columns["amount"]
    trains = [
        np.concatenate([pq.read_table(bench.store.fetch(a.key))["amount"].to_numpy() for a in m.artifacts if a.split == "train"])
        for m in found
    ]
    exact = psi(compare_values(stats, list(trains[1])))
    assert told.psi == pytest.approx(exact, rel=1e-9) and told.shifted
    assert sum(b.window for b in told.bins) == pytest.approx(1) and len(told.bins) >= 10


def test_a_column_with_other_values_than_the_older_one_lists_is_far(bench: Bench) -> None:
    table = people(400)
    later = table.set_column(7, "left", pa.array(["no" if i % 9 else "maybe" for i in range(400)]))
    told = {c.name: c for c in compare(bench, side(bench, table), side(bench, later)).columns}
    assert {b.label: round(b.window, 1) for b in told["left"].bins} == {"no": 0.9, "yes": 0.0, "(new)": 0.1}
    assert told["left"].shifted and told["left"].psi > 1 and not told["visits"].shifted


def test_sensitive_columns_show_a_distance_but_no_bins(bench: Bench) -> None:
    table = people()
    found = compare(bench, side(bench, table), side(bench, table.slice(9)), frozenset({"visits"}))
    told = {c.name: c for c in found.columns}
    assert told["visits"].psi is not None and told["visits"].bins == [] and told["amount"].bins


@pytest.mark.parametrize("key", [["id"], []], ids=["by key", "by row"])
def test_half_a_million_rows_are_compared_a_window_at_a_time(bench: Bench, key: list[str]) -> None:
    n = 500_000
    table = people(1).take(pa.array([0] * n)).set_column(0, "id", pa.array([f"{i:07d}" for i in range(n)]))
    later = table.slice(1_000).set_column(2, "visits", pa.array([*([5] * 100), *([0] * (n - 1_100))], pa.int64()))
    like = side(bench, people(), recipe(key=key))
    before, after = (parts(bench, like, t, 65_536) for t in (table, later))
    held = table.nbytes
    del table, later
    pool, ours = pa.system_memory_pool(), pa.default_memory_pool()  # nobody else uses this one, so its peak is of here
    pa.set_memory_pool(pool)
    try:
        began = time.perf_counter()
        found = compare(bench, before, after)
        seconds = time.perf_counter() - began
    finally:
        pa.set_memory_pool(ours)
    assert (found.added, found.removed, found.changed) == ((0, 1_000, 100) if key else (100, 1_100, 0))
    print(f"{seconds:.1f} s, peak {pool.max_memory() / 1e6:.0f} MB of Arrow for {2 * held / 1e6:.0f} MB of rows")
    assert pool.max_memory() < 48 << 20  # 32 MB, for however many rows
    assert seconds < 60  # some 2 s on a quiet core; a loop over rows takes minutes
