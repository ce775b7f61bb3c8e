"""Split strategies beyond the key's hash: exact shares, whole groups, named and dated splits, and no leak between them."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec, SplitSpec, load_dataset_spec
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.datasets.split import assign
from zebra_assets.errors import DataInvalid, SpecInvalid

SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}


def where(table: pa.Table, masks: dict[Any, pa.Array], key: str = "id") -> dict[str, str]:
    return {row: name for name, mask in masks.items() for row in table.filter(mask)[key].to_pylist()}


def labelled(n: int, start: int = 0) -> pa.Table:
    """Three labels at 60, 37 and 3 per cent."""
    rng = np.random.default_rng(7)
    labels = rng.choice(["a", "b", "rare"], n + start, p=[0.6, 0.37, 0.03])[start:]
    return pa.table({"id": [f"r{i}" for i in range(start, start + n)], "y": labels.tolist()})


def test_recipes_written_before_there_were_strategies_keep_their_digest() -> None:
    assert SplitSpec().model_dump(mode="json") == {"strategy": "hash", "fractions": SHARES, "salt": ""}
    assert digest_of(SplitSpec()) == "780cbefeb82075bcc58382ffe7f1986b160815c2fc25d2a67f18e875173d077b"
    assert SplitSpec(column=None, groups=[], cuts={}).model_dump_json() == SplitSpec().model_dump_json()


@pytest.mark.parametrize(
    "spec",
    [
        {"strategy": "stratified"},
        {"strategy": "stratified", "column": "y", "fractions": {"train": 0.5, "test": 0.5}, "salt": "s"},
        {"strategy": "group", "groups": ["a", "b"]},
        {"strategy": "explicit", "column": "part", "groups": ["a"]},
        {"strategy": "time", "column": "at", "cuts": {"test": "2026-02-01"}},
    ],
    ids=str,
)
def test_every_strategy_reads_back_from_its_own_json_with_the_same_digest(spec: dict[str, Any]) -> None:
    first = SplitSpec.model_validate(spec)
    again = SplitSpec.model_validate_json(first.model_dump_json())
    assert again == first
    assert digest_of(again) == digest_of(first)
    assert set(first.model_dump()) - {"fractions", "salt"} == set(spec) - {"fractions", "salt"}


@pytest.mark.parametrize("n", [40, 997, 20_000])
def test_stratified_shares_are_exact_to_rounding_for_every_label(n: int) -> None:
    table = labelled(n)
    masks = assign(table, ["id"], SplitSpec(strategy="stratified"), column="y")
    assert sum(mask.true_count for mask in masks.values()) == n
    for label in ("a", "b", "rare"):
        of_label = pa.compute.equal(table["y"], label)
        total = of_label.combine_chunks().true_count
        for name, mask in masks.items():
            got = pa.compute.and_(mask, of_label.combine_chunks()).true_count
            assert abs(got - SHARES[name] * total) <= 1, (label, name)


def test_stratified_moves_only_rows_at_the_boundaries_when_rows_are_added() -> None:
    small, all_rows = labelled(10_000), pa.concat_tables([labelled(10_000), labelled(100, start=10_000)])
    spec = SplitSpec(strategy="stratified")
    before, after = (where(t, assign(t, ["id"], spec, column="y")) for t in (small, all_rows))
    moved = sum(after[key] != split for key, split in before.items())
    assert moved <= 60, "1% more rows shift each of 3 x 2 boundaries by the deviation of its share"


def test_stratified_does_not_depend_on_the_order_of_rows_and_keeps_equal_rows_together() -> None:
    table = labelled(3000)
    shuffled = table.take(np.random.default_rng(1).permutation(3000))
    spec = SplitSpec(strategy="stratified")
    assert where(table, assign(table, ["id"], spec, column="y")) == where(shuffled, assign(shuffled, ["id"], spec, column="y"))
    twice = pa.concat_tables([table, table])
    masks = assign(twice, [], spec, column="y")
    assert all(mask.slice(0, 3000).equals(mask.slice(3000)) for mask in masks.values())


def grouped(n: int, per: int) -> pa.Table:
    return pa.table({"id": [f"r{i}" for i in range(n)], "shop": [f"s{i // per}" for i in range(n)], "day": [i % 3 for i in range(n)]})


@pytest.mark.parametrize("groups", [["shop"], ["shop", "day"]], ids=str)
def test_a_group_never_spans_splits_and_stays_when_rows_are_added(groups: list[str]) -> None:
    spec = SplitSpec(strategy="group", groups=groups)
    table = grouped(60_000, 6)
    masks = assign(table, ["id"], spec)
    names = [tuple(row.values()) for row in table.select(groups).to_pylist()]
    splits: dict[Any, set[str]] = {}
    at = where(table, masks)
    for key, group in zip(table["id"].to_pylist(), names, strict=True):
        splits.setdefault(group, set()).add(at[key])
    assert all(len(found) == 1 for found in splits.values())
    assert masks["train"].true_count / table.num_rows == pytest.approx(0.7, abs=0.02)  # 4 deviations at 10,000 groups
    few = table.slice(0, 9_000)
    assert where(few, assign(few, ["id"], spec)).items() <= at.items()


def test_hash_keeps_every_row_when_rows_are_added() -> None:
    table = labelled(5_000)
    before = where(table.slice(0, 4_000), assign(table.slice(0, 4_000), ["id"], SplitSpec()))
    assert before.items() <= where(table, assign(table, ["id"], SplitSpec())).items()


@pytest.mark.parametrize("dtype", ["timestamp", "date"])
def test_time_cuts_belong_to_the_split_that_begins_with_them(dtype: str) -> None:
    days = [date(2026, 1, 30) + timedelta(days=i) for i in range(5)]
    moments = [datetime(d.year, d.month, d.day, tzinfo=UTC) for d in days]
    column = pa.array(days, pa.date32()) if dtype == "date" else pa.array(moments, pa.timestamp("us", tz="UTC"))
    spec = SplitSpec(strategy="time", column="at", cuts={"valid": "2026-02-01", "test": "2026-02-02"})
    table = pa.table({"id": list("abcde"), "at": column})
    assert where(table, assign(table, ["id"], spec, column="at")) == {"a": "train", "b": "train", "c": "valid", "d": "test", "e": "test"}


def test_a_cut_with_a_zone_is_that_moment() -> None:
    at = pa.array([datetime(2026, 2, 1, 4, 59, tzinfo=UTC), datetime(2026, 2, 1, 5, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    spec = SplitSpec(strategy="time", column="at", cuts={"test": "2026-02-01T00:00:00-05:00"})
    assert assign(pa.table({"at": at}), [], spec, column="at")["test"].to_pylist() == [False, True]


BAD = {
    "no column": ({"strategy": "explicit"}, "strategy explicit needs `column`"),
    "no cuts": ({"strategy": "time", "column": "seen"}, "strategy time needs `cuts`"),
    "no groups": ({"strategy": "group"}, "strategy group needs `groups`"),
    "a cut that is no date": ({"strategy": "time", "column": "seen", "cuts": {"test": "soon"}}, "Invalid isoformat"),
    "cuts that descend": ({"strategy": "time", "column": "seen", "cuts": {"valid": "2026-03-01", "test": "2026-02-01"}}, "must ascend"),
    "a cut for train": ({"strategy": "time", "column": "seen", "cuts": {"train": "2026-03-01"}}, "train is what lies before"),
    "fractions nobody reads": ({"strategy": "explicit", "column": "name", "fractions": {"train": 1.0}}, "`fractions` is for"),
    "groups with hash": ({"groups": ["left"]}, "`groups` is for strategy group"),
    "an unknown column": ({"strategy": "explicit", "column": "part"}, "does not list"),
    "a nullable column": ({"strategy": "explicit", "column": "name"}, "is nullable"),
    "the wrong dtype": ({"strategy": "explicit", "column": "visits"}, "needs string"),
    "time on text": ({"strategy": "time", "column": "left", "cuts": {"test": "2026-02-01"}}, "needs date or timestamp"),
    "strata of fractions": ({"strategy": "stratified", "column": "ratio"}, "needs string or bool or int64"),
    "times on a date": ({"strategy": "time", "column": "day", "cuts": {"test": "2026-02-01T10:00:00"}}, "cut at dates"),
    "an unknown group": ({"strategy": "group", "groups": ["shop"]}, "does not list"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_recipe_whose_splits_cannot_be_told_is_refused(case: str) -> None:
    splits, words = BAD[case]
    columns = COLUMNS | {"ratio": {"dtype": "float64"}, "day": {"dtype": "date"}}
    with pytest.raises(ValidationError, match=words):
        recipe(splits=splits, columns=columns)


def test_stratified_without_label_or_column_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs it, or a label"):
        recipe(splits={"strategy": "stratified"}, label=None)


def test_unquoted_yaml_dates_are_cuts(tmp_path: Path) -> None:
    (tmp_path / "sales").mkdir()
    (tmp_path / "sales" / "dataset.yaml").write_text(
        "schema_version: 1\nname: sales\nsource: {connector: files, path: a.csv}\ncolumns: {at: {dtype: date}}\n"
        "splits:\n  strategy: time\n  column: at\n  cuts: {valid: 2026-01-01, test: 2026-02-01}\n"
    )
    assert load_dataset_spec(tmp_path / "sales").splits.cuts == {"valid": "2026-01-01", "test": "2026-02-01"}
    text = (tmp_path / "sales" / "dataset.yaml").read_text()
    (tmp_path / "sales" / "dataset.yaml").write_text(text.replace("2026-02-01", "2025-02-01"))
    with pytest.raises(SpecInvalid, match=r"dataset.yaml:5: splits: `cuts` must ascend"):
        load_dataset_spec(tmp_path / "sales")


def parted(n: int = 90) -> pa.Table:
    """People with a split each, and a shop of three people."""
    names = ["train"] * 60 + ["valid"] * 12 + ["test"] * 18
    return people(n).append_column("part", pa.array(names)).append_column("shop", pa.array([i // 3 for i in range(n)]))


def explicit(**changes: Any) -> DatasetSpec:
    columns = COLUMNS | {"part": {"dtype": "string"}, "shop": {"dtype": "int64"}}
    splits = {"strategy": "explicit", "column": "part", "groups": ["shop"]}
    return recipe(**({"columns": columns, "splits": splits} | changes))


def test_explicit_splits_are_taken_as_they_are_named(bench: Bench) -> None:
    bench.put("rows.csv", csv_bytes(parted()))
    done = bench.ingest(explicit())
    assert done.manifest.stats.rows_by_split == {"train": 60, "valid": 12, "test": 18}
    assert Manifest.model_validate_json(done.manifest.to_json()) == done.manifest
    assert set(bench.split(done, "valid")["part"].to_pylist()) == {"valid"}


def changed(table: pa.Table, row: int, column: str, value: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row][column] = value
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_another_word_than_a_split_is_told_with_its_row_beside_all_other_broken_rules(bench: Bench) -> None:
    table = changed(changed(parted(), 5, "part", "trian"), 7, "visits", -1)
    bench.put("rows.csv", csv_bytes(table))
    columns = COLUMNS | {"part": {"dtype": "string"}, "shop": {"dtype": "int64"}, "visits": {"dtype": "int64", "min": 0}}
    with pytest.raises(DataInvalid) as caught:
        bench.ingest(explicit(columns=columns))
    assert "column 'part': one of train, valid, test: 1 rows: row 6 ('trian')" in caught.value.message
    assert "column 'visits': min 0: 1 rows: row 8 (-1)" in caught.value.message


def test_rows_that_name_no_split_are_never_dealt() -> None:
    with pytest.raises(DataInvalid, match=r"1 other values: 'trian'\. Did you mean 'train'"):
        assign(changed(parted(), 5, "part", "trian"), ["id"], explicit().splits, column="part")


def test_a_group_in_two_splits_is_a_leak_and_nothing_is_written(bench: Bench) -> None:
    bench.put("rows.csv", csv_bytes(changed(parted(), 4, "part", "test")))
    with pytest.raises(DataInvalid, match=r"group shop: 1 in two splits: \(1\) in train and test"):
        bench.ingest(explicit())
    assert bench.files() == set()


def test_a_key_that_hides_its_split_is_a_leak_and_sensitive_examples_are_masked(bench: Bench) -> None:
    table = parted()
    bench.put("rows.csv", csv_bytes(pa.concat_tables([table, changed(table, 0, "part", "test").slice(0, 1)])))
    splits = {"strategy": "explicit", "column": "part"}
    with pytest.raises(DataInvalid, match=r"key id: 1 in two splits: \('p00000'\) in train and test"):
        bench.ingest(explicit(key=["part", "id"], splits=splits))
    with pytest.raises(DataInvalid, match=r"\(\*\*\*\) in train and test"):
        bench.ingest(explicit(key=["part", "id"], splits=splits, sensitive=["id"]))


def test_without_a_key_the_same_row_in_two_splits_is_a_leak(bench: Bench) -> None:
    table = parted()
    bench.put("rows.csv", csv_bytes(pa.concat_tables([table, changed(table, 0, "part", "test").slice(0, 1)])))
    with pytest.raises(DataInvalid, match="1 in two splits"):
        bench.ingest(explicit(key=[], splits={"strategy": "explicit", "column": "part"}))


def test_a_person_seen_before_and_after_the_cut_is_a_leak_where_people_are_groups(bench: Bench) -> None:
    table = parted().set_column(9, "shop", pa.array([i % 30 for i in range(90)]))
    bench.put("rows.csv", csv_bytes(table))
    splits = {"strategy": "time", "column": "seen", "cuts": {"test": "2026-01-03"}}
    assert bench.ingest(explicit(splits=splits)).manifest.stats.rows_by_split == {"train": 48, "test": 42}
    with pytest.raises(DataInvalid, match=r"group shop: 30 in two splits: \(0\) in train and test, .*, \.\.\."):
        bench.ingest(explicit(splits=splits | {"groups": ["shop"]}))


@pytest.mark.parametrize(
    "splits",
    [{"strategy": "time", "column": "seen", "cuts": {"test": "2026-01-03"}}, {"strategy": "stratified", "column": "left"}],
    ids=str,
)
def test_a_null_where_the_split_looks_is_told_as_a_null(bench: Bench, splits: dict[str, Any]) -> None:
    bench.put("rows.csv", csv_bytes(changed(parted(), 5, str(splits["column"]), None)))
    with pytest.raises(DataInvalid, match=rf"column '{splits['column']}': (not|label) null: 1 rows: row 6 \(None\)"):
        bench.ingest(explicit(splits=splits))


def test_a_cut_after_the_last_row_leaves_a_split_empty_and_is_told(bench: Bench) -> None:
    bench.put("rows.csv", csv_bytes(parted()))
    with pytest.raises(DataInvalid, match="none falls into split test"):
        bench.ingest(explicit(splits={"strategy": "time", "column": "seen", "cuts": {"test": "2027-01-01"}}))


@pytest.mark.parametrize("splits", [{"strategy": "stratified"}, {"strategy": "group", "groups": ["shop"]}], ids=str)
def test_dealt_splits_are_committed_and_pass_the_leak_check(bench: Bench, splits: dict[str, Any]) -> None:
    bench.put("rows.csv", csv_bytes(parted()))
    done = bench.ingest(explicit(splits=splits))
    assert sum(done.manifest.stats.rows_by_split.values()) == 90
    assert not bench.ingest(explicit(splits=splits)).created
