"""A table judged, dealt and compared block by block comes out as it does in one piece, wherever it is cut."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.findings import Findings
from zebra_assets.datasets.leaks import refuse, refuse_leaks
from zebra_assets.datasets.row_hash import row_hashes, splitmix64
from zebra_assets.datasets.seen import Seen, leak_questions, marks, questions, unique_questions
from zebra_assets.datasets.split import assign, plan
from zebra_assets.datasets.strata import Strata
from zebra_assets.datasets.table import arrange
from zebra_assets.datasets.validate import Check, conclude, examine, validate
from zebra_assets.errors import DataInvalid

COLUMNS: dict[str, Any] = {
    "a": {"dtype": "int64"},
    "b": {"dtype": "string"},
    "number": {"dtype": "float64", "nullable": True, "unique": True, "min": 0, "values": [0, 1, 2, 3, 9]},
    "text": {"dtype": "string", "unique": True, "max_length": 2, "pattern": "[a-z]*", "values": ["", "x", "yy", "zzz", "Ü"]},
    "shop": {"dtype": "int64", "nullable": False, "max": 4},
    "day": {"dtype": "date"},
    "part": {"dtype": "string"},
}
CELLS: dict[str, list[Any]] = {
    "a": [1, 2, 3, 4, 5, 6, None],
    "b": ["p", "q", "r", "s", "t", "u"],
    "number": [0.0, -0.0, 1.0, 2.5, float("nan"), None, -1.0, 9.0],
    "text": ["", "x", "yy", "zzz", "Ü", None, "nope"],
    "shop": [1, 2, 3, 4, 5],
    "day": [None, 0, 1, 2, 3],
    "part": ["train", "valid", "test", "trian"],
}
TYPES = {"int64": pa.int64(), "string": pa.string(), "float64": pa.float64(), "date": pa.date32()}
RULES = ["a <= shop or text == 'x'", "number <= a", 'day >= "1970-01-02"', "not (b == 'p' and shop > 3)"]


def spec_of(**changes: Any) -> DatasetSpec:
    expectations = {"min_rows": 3, "max_rows": 30, "max_null_fraction": 0.3}
    return recipe(**({"columns": COLUMNS, "key": ["a", "b"], "label": None, "rules": RULES, "expectations": expectations} | changes))


@st.composite
def tables(draw: st.DrawFn, *, clean: tuple[str, ...] = ()) -> pa.Table:
    """Few rows of few values, so that everything repeats; columns of ``clean`` hold nothing that is wrong in itself."""
    rows = draw(st.integers(1, 40))
    arrays = {}
    for name, cells in CELLS.items():
        allowed = [c for c in cells if c is not None and c != "trian"] if name in clean else cells
        arrays[name] = pa.array(draw(st.lists(st.sampled_from(allowed), min_size=rows, max_size=rows)), TYPES[COLUMNS[name]["dtype"]])
    return pa.table(arrays)


def cut(table: pa.Table, size: int) -> list[tuple[int, pa.Table]]:
    return [(start, table.slice(start, size)) for start in range(0, table.num_rows, size)]


def judged(table: pa.Table, spec: DatasetSpec, size: int, came_from: pa.Array | None, scratch: Path) -> list[Check]:
    """As the ingest does it: blocks anywhere, results in order."""
    total, asked = Findings(), unique_questions(spec)
    with Seen(asked, spec, scratch, run=5) as seen:
        for start, block in cut(table, size):
            source = None if came_from is None else came_from.slice(start, size)
            before = table.slice(start - 1, 1) if start else None
            total.merge(pickle.loads(pickle.dumps(examine(block, spec, first_row=start, came_from=source, before=before))))
            seen.add(pickle.loads(pickle.dumps(marks(block, asked, first_row=start))))
        numbered = None if came_from is None else (lambda rows: came_from.take(pa.array(rows)).to_numpy())
        return conclude(total, spec, repeats=seen.repeats(lambda rows: table.take(pa.array(rows)), numbered))


@settings(max_examples=80, deadline=None)
@given(table=tables(), size=st.integers(1, 45), key=st.sampled_from([["a", "b"], ["b"], []]))
def test_blocks_of_any_size_are_judged_as_the_whole_table_is(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, size: int, key: list[str]
) -> None:
    spec = spec_of(key=key, columns=COLUMNS | {"b": {"dtype": "string", "unique": True}})
    ordered, came_from = arrange(table, key)
    whole = validate(ordered, spec, came_from)
    assert judged(ordered, spec, size, came_from, tmp_path_factory.getbasetemp() / "scratch") == whole


@settings(max_examples=50, deadline=None)
@given(table=tables())
def test_repeats_are_those_that_a_walk_over_the_rows_finds(table: pa.Table) -> None:
    checks = {(c.column, c.rule): c.count for c in validate(table, spec_of(key=[]))}
    for name in ("number", "text"):
        given = [0.0 if v == 0 else v for v in table[name].to_pylist() if v is not None and v == v]
        assert checks[name, "unique"] == len(given) - len(set(given))


def colliding(count: int) -> list[str]:
    """Different texts of 16 letters with one row hash: h = mix(mix(mix(seed ^ 16) ^ w1) ^ w2), so w2 can be chosen to fit."""
    start = splitmix64(np.array([0xE3B0C44298FC1C14 ^ 16], dtype=np.uint64))
    first = np.random.default_rng(3).integers(97, 123, (count * 40_000, 8), dtype=np.uint8).view("<u8").reshape(-1)
    inner = splitmix64(start ^ first)
    second = inner ^ inner[0] ^ np.frombuffer(b"zebrafin", "<u8")
    letters = second.view(np.uint8).reshape(-1, 8)
    fit = np.flatnonzero(((letters >= 33) & (letters < 127)).all(axis=1))[:count]
    return [(first[i].tobytes() + second[i].tobytes()).decode() for i in fit]


TWINS = colliding(20)


def test_texts_that_share_a_hash_are_not_taken_for_repeats_and_true_ones_among_them_are() -> None:
    assert len(set(TWINS)) == 20
    assert len(set(row_hashes(pa.table({"x": TWINS})).tolist())) == 1
    spec = recipe(columns={"id": {"dtype": "int64"}, "name": {"dtype": "string", "unique": True}}, key=["id"], label=None)
    honest = pa.table({"id": list(range(20)), "name": TWINS})
    assert all(c.passed for c in validate(honest, spec))
    table = pa.table({"id": list(range(22)), "name": [*TWINS, TWINS[7], TWINS[0]]})
    check = next(c for c in validate(table, spec) if not c.passed)
    assert (check.rule, check.count, check.detail) == ("unique", 2, f"2 rows: row 21 ({TWINS[7]!r}), row 22 ({TWINS[0]!r})")


def test_groups_that_share_a_hash_are_no_leak_and_true_ones_among_them_are() -> None:
    columns = {"id": {"dtype": "int64"}, "part": {"dtype": "string"}, "shop": {"dtype": "string"}}
    splits = {"strategy": "explicit", "column": "part", "groups": ["shop"]}
    spec = recipe(columns=columns, key=["id"], label=None, splits=splits)
    table = pa.table({"id": [0, 1, 2], "part": ["train", "valid", "test"], "shop": TWINS[:3]})
    refuse_leaks(table, assign(table, ["id"], spec.splits, column="part"), spec)
    leaking = pa.table({"id": [0, 1, 2], "part": ["train", "valid", "test"], "shop": [TWINS[0], TWINS[1], TWINS[0]]})
    with pytest.raises(DataInvalid, match=r"group shop: 1 in two splits: .* in train and test"):
        refuse_leaks(leaking, assign(leaking, ["id"], spec.splits, column="part"), spec)


def leaks_by_walking(table: pa.Table, names: list[str], masks: dict[Any, pa.Array]) -> int:
    splits: dict[Any, set[str]] = {}
    for name, mask in masks.items():
        for row in table.filter(mask).select(names).to_pylist():
            cells = tuple("nan" if v != v else 0.0 if v == 0 else v for v in row.values())
            splits.setdefault(cells, set()).add(name)
    return sum(len(found) > 1 for found in splits.values())


@settings(max_examples=100, deadline=None)
@given(
    table=tables(clean=("a", "b", "shop", "day", "part")),
    size=st.integers(1, 45),
    key=st.sampled_from([["part", "a"], ["a", "b"], []]),
    splits=st.sampled_from(
        [
            {"strategy": "explicit", "column": "part", "groups": ["shop"]},
            {"strategy": "explicit", "column": "part"},
            {"strategy": "time", "column": "day", "cuts": {"valid": "1970-01-02", "test": "1970-01-03"}, "groups": ["shop", "b"]},
        ]
    ),
)
def test_leaks_found_in_blocks_are_those_of_the_whole_table_and_of_a_walk_over_the_rows(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, size: int, key: list[str], splits: dict[str, Any]
) -> None:
    spec = spec_of(key=key, splits=splits)
    if key:  # rows come with unique keys, as validation leaves them
        _, first = np.unique([str(row) for row in table.select(key).to_pylist()], return_index=True)
        table = table.take(pa.array(np.sort(first)))
    how, asked = plan(spec), leak_questions(spec)
    with Seen(asked, spec, tmp_path_factory.getbasetemp() / "scratch", run=7) as seen:
        for start, block in cut(table, size):
            seen.add(marks(block, asked, first_row=start, masks=how.assign(block, start)))
        found = seen.leaks(lambda rows: table.take(pa.array(rows)))
    masks = how.assign(table)
    walks = {question: leaks_by_walking(table, [*question.columns], masks) for question in asked}
    assert {leak.question: leak.count for leak in found} == {question: count for question, count in walks.items() if count}
    if not found:
        refuse_leaks(table, masks, spec)
        return
    with pytest.raises(DataInvalid) as whole:
        refuse_leaks(table, masks, spec)
    with pytest.raises(DataInvalid) as in_blocks:
        refuse(found, spec)
    assert in_blocks.value.message == whole.value.message


def test_what_is_not_asked_cannot_leak() -> None:
    """Whole rows and keys that the questions leave out never stand in two splits, whatever the rows."""
    rng = np.random.default_rng(5)
    table = pa.table(
        {name: pa.array(rng.choice(range(1, 4), 400)) for name in ("a", "shop")}
        | {"day": pa.array(rng.choice(5, 400), pa.int32()).cast(pa.date32())}
    )
    columns = {name: COLUMNS[name] for name in ("a", "shop", "day")}
    strategies: list[dict[str, Any]] = [
        {},
        {"strategy": "stratified", "column": "shop"},
        {"strategy": "time", "column": "day", "cuts": {"test": "1970-01-03"}},
        {"strategy": "group", "groups": ["shop"]},
    ]
    for splits in strategies:
        spec = recipe(columns=columns, key=[], label=None, splits=splits)
        masks = assign(table, [], spec.splits, column=spec.split_column)
        assert questions(spec) == []
        assert leaks_by_walking(table, table.column_names, masks) == 0, splits


SPLITS: list[dict[str, Any]] = [
    {},
    {"fractions": {"train": 0.5, "test": 0.5}, "salt": "s"},
    {"strategy": "group", "groups": ["shop", "b"]},
    {"strategy": "time", "column": "day", "cuts": {"valid": "1970-01-02", "test": "1970-01-03"}},
    {"strategy": "explicit", "column": "part"},
    {"strategy": "stratified", "column": "shop"},
    {"strategy": "stratified", "column": "b", "fractions": {"train": 0.001, "valid": 0.499, "test": 0.5}},
    {"strategy": "stratified", "column": "b", "fractions": {"train": 1.0}},
]


def dealt_whole(table: pa.Table, hashes: np.ndarray, column: str, upper: np.ndarray) -> np.ndarray:
    """Stratified as it was first written, over the whole table in memory."""
    _, codes = np.unique(np.asarray(table[column]).astype(str), return_inverse=True)
    at = np.zeros(len(hashes), dtype=np.int64)
    for code in set(codes.tolist()):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(hashes[rows], kind="stable")]
        _, first, which = np.unique(hashes[rows], return_index=True, return_inverse=True)
        at[rows] = np.searchsorted(np.floor(upper * len(rows) + 0.5), first[which], side="right")
    return at


@settings(max_examples=120, deadline=None)
@given(
    table=tables(clean=("a", "b", "shop", "day", "part")),
    size=st.integers(1, 45),
    splits=st.sampled_from(SPLITS),
    key=st.sampled_from([["a"], []]),
)
def test_blocks_of_any_size_are_dealt_as_the_whole_table_is(table: pa.Table, size: int, splits: dict[str, Any], key: list[str]) -> None:
    spec = spec_of(splits=splits, key=key)
    how = plan(spec)
    assert how.needs_pass == (splits.get("strategy") == "stratified")
    for _, block in reversed(cut(table, size)):
        how.observe(block)
    how.settle()
    how = pickle.loads(pickle.dumps(how))
    parts = [how.assign(block, start) for start, block in cut(table, size)]
    joined = {name: pa.concat_arrays([part[name] for part in parts]) for name in how.names}
    whole = assign(table, spec.key, spec.splits, column=spec.split_column)
    assert {name: mask for name, mask in joined.items() if name in whole} == whole
    assert sum(mask.true_count for mask in joined.values()) == table.num_rows
    if how.needs_pass:
        names = [name for name in ("train", "valid", "test") if name in spec.splits.fractions]
        upper = np.cumsum([spec.splits.fractions[name] for name in names])[:-1]
        hashes = row_hashes(table.select(key or table.column_names), spec.splits.salt)
        expected = dealt_whole(table, hashes, str(spec.split_column), upper)
        assert [pa.array(expected == i) for i in range(len(names))] == [joined[name] for name in names]


def test_strata_beyond_memory_are_cut_as_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    hashes = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    hashes[::7] = hashes[1::7][: len(hashes[::7])]
    values = pa.chunked_array([pa.array(rng.choice(["a", "b", "c"], 30_000, p=[0.9, 0.0999, 0.0001]).tolist())])
    dealt = []
    for scratch, run in ((None, 10**6), (tmp_path, 500)):
        strata = Strata(np.array([0.7, 0.85]), scratch, run=run)
        for start in range(0, 30_000, 997):
            strata.observe(hashes[start : start + 997], values.slice(start, 997))
        strata.settle()
        dealt.append(strata.deal(hashes, values))
    assert np.array_equal(*dealt)
    whole = dealt_whole(pa.table({"v": values}), hashes, "v", np.array([0.7, 0.85]))
    assert np.array_equal(dealt[0], whole)


def test_a_settled_plan_is_small_whatever_the_rows(tmp_path: Path) -> None:
    spec = recipe(
        columns={"id": {"dtype": "int64"}, "y": {"dtype": "string"}},
        key=["id"],
        label=None,
        splits={"strategy": "stratified", "column": "y"},
    )
    how = plan(spec, scratch=tmp_path)
    for start in range(0, 200_000, 50_000):
        how.observe(pa.table({"id": list(range(start, start + 50_000)), "y": ["a", "b"] * 25_000}))
    how.settle()
    assert len(pickle.dumps(how)) < 2_000


def test_examples_stay_the_first_five_however_many_repeat(tmp_path: Path) -> None:
    """More repeats than are read again: the count is theirs, and only suspects are read."""
    rows = 60_000
    table = pa.table({"id": list(range(rows)), "x": [i % 100 for i in range(rows)]})
    spec = recipe(columns={"id": {"dtype": "int64"}, "x": {"dtype": "int64", "unique": True}}, key=["id"], label=None)
    asked, read = questions(spec), []

    def rows_at(places: np.ndarray) -> pa.Table:
        read.append(len(places))
        assert (np.diff(places) > 0).all()
        return table.take(pa.array(places))

    with Seen(asked, spec, tmp_path, run=1000) as seen:
        for start, block in cut(table, 4096):
            seen.add(marks(block, asked, first_row=start))
        found = seen.repeats(rows_at)["x"]
    assert found.count == rows - 100
    assert found.examples == [f"row {i + 1} ({i % 100})" for i in range(100, 105)]
    assert max(read) <= 8192


def test_a_plan_says_which_splits_it_tells_of_and_which_must_not_be_empty() -> None:
    columns = {"id": {"dtype": "int64"}, "part": {"dtype": "string"}, "day": {"dtype": "date"}}
    told = {
        "hash": ({"fractions": {"train": 0.5, "test": 0.5}}, ("train", "test"), ("train", "test")),
        "explicit": ({"column": "part"}, ("train", "valid", "test"), ("train",)),
        "time": ({"column": "day", "cuts": {"test": "2026-01-01"}}, ("train", "test"), ("train", "test")),
    }
    for strategy, (splits, names, required) in told.items():
        how = plan(recipe(columns=columns, label=None, splits={"strategy": strategy, **splits}))
        assert (how.names, how.required) == (names, required)
