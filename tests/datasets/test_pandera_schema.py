"""The recipe as a pandera schema: pandera and the ingest accept and refuse the same tables."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import COLUMNS as PEOPLE
from tests.datasets.conftest import people, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.pandera_schema import pandera_schema
from zebra_assets.datasets.table import arrange, schema_of
from zebra_assets.datasets.validate import Check, examine, validate

NUMBERS = ("int64", "float64")
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-3, 6) | st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1]),
    "float64": st.integers(-3, 6).map(float) | st.sampled_from([-0.0, 0.5, float("nan"), float("inf"), -float("inf")]),
    "string": st.text("abÜ🦓\n", max_size=3),
    "bool": st.booleans(),
    "date": st.integers(0, 5).map(lambda n: date(2026, 1, 1) + timedelta(days=n)),
    "timestamp": st.integers(0, 5).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n)),
}


@st.composite
def columns(draw: st.DrawFn, dtype: str) -> dict[str, Any]:
    """One column's promise, with rules that fit its dtype now and then."""
    column: dict[str, Any] = {"dtype": dtype, "nullable": draw(st.booleans()), "unique": draw(st.sampled_from([False, False, True]))}
    if dtype in NUMBERS and draw(st.booleans()):
        column |= {"min": draw(st.sampled_from([-4, -3, 0.5, -(2.0**63)])), "max": draw(st.sampled_from([6, 7.5, 2.0**53, 2.0**63]))}
    if dtype in ("int64", "float64", "bool", "string") and draw(st.integers(0, 3)) == 0:
        written = {"int64": [-1, 0, 1, 2, 3], "float64": [-1, 0, 1, 2, 3], "bool": [True], "string": ["", "a", "ab", "\n"]}
        column["values"] = written[dtype]
    if dtype == "string" and draw(st.booleans()):
        column |= {
            "pattern": draw(st.sampled_from(["[a-z]*", "a|b", "(?i)[AB]*", "(?s).*", r"\pL*"])),
            "min_length": draw(st.integers(0, 1)),
            "max_length": 2,
        }
    return column


@st.composite
def rules(draw: st.DrawFn) -> str:
    one = st.sampled_from(
        [
            "i <= f", "f < 3", "i != 2", "i < 2.5", "i == j", "i >= -9223372036854775808", "s >= t", "s == 'a'", "flag", "not flag", "flag != true", "born <= '2026-01-03'",
            'seen > "2026-01-01T02:00:00+00:00"', "0 <= i <= j", "not (s == t)",
        ]
    )  # fmt: skip
    first, second = draw(one), draw(one)
    return draw(st.sampled_from([first, f"{first} or {second}", f"{first} and {second}", f"not ({first}) or {second}"]))


DTYPES = {"i": "int64", "j": "int64", "f": "float64", "s": "string", "t": "string", "flag": "bool", "born": "date", "seen": "timestamp"}


@st.composite
def cases(draw: st.DrawFn) -> tuple[DatasetSpec, pa.Table]:
    """A recipe and a table that often keeps it: few rows, few nulls."""
    strict = draw(st.sets(st.sampled_from(sorted(DTYPES)), max_size=3))
    promised = {name: draw(columns(dtype)) if name in strict else {"dtype": dtype, "nullable": True} for name, dtype in DTYPES.items()}
    key = draw(st.sampled_from([[], ["i"], ["j", "s"], ["f"], ["born", "flag"]]))
    for name in key:
        promised[name]["nullable"] = False
    expectations = {
        "min_rows": draw(st.integers(1, 2)),
        "max_rows": draw(st.sampled_from([None, 5])),
        "max_null_fraction": draw(st.sampled_from([1.0, 1.0, 0.5])),
    }
    expectations["max_null_fractions"] = draw(st.sampled_from([{}, {}, {"f": 0.25}]))
    spec = recipe(columns=promised, key=key, label=None, rules=draw(st.lists(rules(), max_size=1)), expectations=expectations)
    rows, tame = draw(st.integers(1, 6)), draw(st.integers(0, 3)) > 0
    table = {}
    for name, column in promised.items():
        cell = st.sampled_from(column["values"]) if tame and "values" in column else CELLS[column["dtype"]]
        cell = cell if tame and not column["nullable"] else cell | cell | st.none()
        table[name] = draw(st.lists(cell, min_size=rows, max_size=rows))
    return spec, pa.table(table, schema=pa.schema([f.with_nullable(True) for f in schema_of(spec)]))


VERDICTS: dict[bool, int] = {True: 0, False: 0}


def ours(spec: DatasetSpec, table: pa.Table) -> list[Check]:
    ordered, came_from = arrange(table, spec.key)
    words = pa.table({f.name: ordered[f.name].dictionary_encode() if f.type == pa.string() else ordered[f.name] for f in ordered.schema})
    assert examine(ordered, spec, came_from=came_from) == examine(ordered, spec, came_from=came_from, coded=words)
    return [check for check in validate(ordered, spec, came_from) if not check.passed]


def frame_of(table: pa.Table) -> Any:
    """As people get one; whole numbers keep their digits beside nulls."""
    import pandas

    return table.to_pandas(types_mapper={pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}.get)


def theirs(spec: DatasetSpec, table: pa.Table) -> str | None:
    try:
        pandera_schema(spec).validate(frame_of(table))
    except pandera.errors.SchemaError as error:
        return str(error)
    return None


@settings(max_examples=250, deadline=None)
@given(case=cases())
def compared(case: tuple[DatasetSpec, pa.Table]) -> None:
    spec, table = case
    broken, refusal = ours(spec, table), theirs(spec, table)
    assert bool(broken) == bool(refusal), (broken, refusal)
    VERDICTS[not broken] += 1


def test_pandera_and_the_ingest_give_the_same_verdict_on_any_table() -> None:
    compared()
    assert sum(VERDICTS.values()) >= 200
    assert min(VERDICTS.values()) >= 20, "both verdicts must occur, or the comparison says nothing"


BAD: dict[str, tuple[str, Any]] = {
    "not null": ("left", None),
    "min 0": ("visits", -1),
    "max 10000": ("visits", 10_001),
    "one of yes, no": ("left", "maybe"),
    "pattern p[0-9]{5}": ("id", "q00001"),
    "min_length 6": ("id", "p1"),
    "max_length 6": ("id", "p000001"),
    "unique": ("visits", 3),
    "key is unique": ("id", "p00001"),
    "amount <= visits or amount > 100": ("amount", 99.0),
}


@pytest.mark.parametrize("rule", BAD)
def test_every_rule_is_refused_by_both(rule: str) -> None:
    columns = PEOPLE | {
        "id": {"dtype": "string", "pattern": "p[0-9]{5}", "min_length": 6, "max_length": 6},
        "visits": {"dtype": "int64", "min": 0, "max": 10_000, "unique": True},
        "left": {"dtype": "string", "values": ["yes", "no"]},
    }
    spec = recipe(columns=columns, rules=["amount <= visits or amount > 100"], label=None)
    assert not ours(spec, people(20))
    assert theirs(spec, people(20)) is None
    name, cell = BAD[rule]
    rows = people(20).to_pylist()
    rows[2][name] = cell
    table = pa.Table.from_pylist(rows, schema=people().schema)
    assert rule in {check.rule for check in ours(spec, table)}
    assert theirs(spec, table)


def test_integers_that_a_float_cannot_tell_apart_are_told_apart_by_both() -> None:
    spec = recipe(columns={"n": {"dtype": "int64", "max": 2.0**53, "unique": True, "nullable": True}}, key=[], label=None)
    for last, good in ((2**53, True), (2**53 + 1, False)):
        table = pa.table({"n": pa.array([None, None, 1, last], pa.int64())})
        assert (not ours(spec, table), theirs(spec, table) is None) == (good, good)


def test_shares_of_nulls_and_numbers_of_rows_are_refused_by_both() -> None:
    for expectations in ({"max_null_fraction": 0.01}, {"max_null_fractions": {"name": 0.01}}, {"min_rows": 21}, {"max_rows": 19}):
        spec = recipe(expectations=expectations)
        assert ours(spec, people(20)), expectations
        assert theirs(spec, people(20)), expectations
