"""Rules on cells and across columns: what a missing cell, a hidden cell, a huge number and a hostile pattern come to."""

import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.row_rule import Column, Comparison, Condition, Joined, read_rule
from zebra_assets.datasets.validate import Check, examine, validate
from zebra_assets.errors import DataInvalid


def broken(columns: dict[str, Any], cells: dict[str, list[Any]], **changes: Any) -> list[Check]:
    """The checks that fail for a table without a key."""
    spec = recipe(columns=columns, key=[], label=None, **changes)
    types = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string(), "bool": pa.bool_()}
    table = pa.table({name: pa.array(values, types[columns[name]["dtype"]]) for name, values in cells.items()})
    return [check for check in validate(table, spec) if not check.passed]


NUMBER = {"dtype": "int64", "nullable": True}


def test_a_rule_across_columns_names_its_columns_count_and_first_rows() -> None:
    cells = {"start": [1, 5, None, 9, 7], "end": [2, 4, 1, None, 6]}
    (check,) = broken({"start": NUMBER, "end": NUMBER}, cells, rules=["start <= end"])
    assert (check.rule, check.column, check.count) == ("start <= end", "start, end", 2)
    assert check.detail == "2 rows: row 2 (5, 4), row 5 (7, 6)"


def test_hidden_columns_stay_hidden_beside_others() -> None:
    (check,) = broken({"start": NUMBER, "end": NUMBER}, {"start": [5], "end": [4]}, rules=["start <= end"], sensitive=["start"])
    assert check.detail == "1 rows: row 1 (***, 4)"


def test_an_ingest_that_breaks_a_rule_across_columns_commits_nothing(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    with pytest.raises(DataInvalid, match=r"column 'amount, visits': amount > visits: 181 rows: row 2 \(0\.125, 3\), "):
        bench.ingest(recipe(rules=["amount > visits"]))
    assert bench.files() == set()
    assert bench.ingest(recipe(rules=["amount <= visits", 'born < "2000-01-01" or seen >= "2026-01-01"'])).created


CELL = {
    "i": st.none() | st.integers(-2, 2),
    "f": st.none() | st.sampled_from([-1.0, 0.0, -0.0, 0.5, 2.0, float("nan")]),
    "s": st.none() | st.sampled_from("xyz"),
    "ok": st.none() | st.booleans(),
}
DTYPES = {"i": "int64", "f": "float64", "s": "string", "ok": "bool"}
ONES = ["i < f", "f <= i", "i == 1", "i >= 0.5", "f != 0", "s > 'x'", "'y' == s", "ok", "ok != false", "-1 <= i < 2"]


@st.composite
def conditions(draw: st.DrawFn) -> str:
    a, b, c = (draw(st.sampled_from(ONES)) for _ in range(3))
    return draw(st.sampled_from([a, f"not ({a})", f"{a} and {b} or {c}", f"{a} and ({b} or not ({c}))", f"not ({a} or {b})"]))


def truth(rule: Condition, row: dict[str, Any]) -> bool | None:
    """SQL's three values, cell by cell."""
    if isinstance(rule, Joined):
        found = [truth(part, row) for part in rule.parts]
        decides = rule.word == "or"
        return decides if decides in found else None if None in found else not decides
    if isinstance(rule, Comparison):
        left, right = (row[side.name] if isinstance(side, Column) else side.value for side in (rule.left, rule.right))
        if left is None or right is None or left != left or right != right:
            return None
        return {"<": left < right, "<=": left <= right, "==": left == right, "!=": left != right, ">=": left >= right, ">": left > right}[
            rule.operator
        ]
    if isinstance(rule, Column):
        return row[rule.name]
    inner = truth(rule.part, row)
    return None if inner is None else not inner


@settings(max_examples=150, deadline=None)
@given(rule=conditions(), rows=st.lists(st.fixed_dictionaries(CELL), min_size=1, max_size=12))
def test_a_row_breaks_a_rule_only_where_it_is_false_as_in_sql(rule: str, rows: list[dict[str, Any]]) -> None:
    columns = {name: {"dtype": dtype, "nullable": True} for name, dtype in DTYPES.items()}
    expected = sum(truth(read_rule(rule, DTYPES), row) is False for row in rows)
    found = broken(columns, {name: [row[name] for row in rows] for name in DTYPES}, rules=[rule])
    assert sum(check.count for check in found) == expected


@pytest.mark.parametrize("allowed", [0.0, -0.0])
def test_zero_is_allowed_with_either_sign(allowed: float) -> None:
    column = {"dtype": "float64", "nullable": False, "values": [allowed, 2]}
    assert [c.detail for c in broken({"x": column}, {"x": [0.0, -0.0, 2.0]})] == []
    assert [c.count for c in broken({"x": {**column, "values": [1, 2]}}, {"x": [0.0, -0.0, 2.0]})] == [2]


def test_integers_beyond_53_bits_are_compared_as_integers() -> None:
    """Arrow refuses to compare them with a float; the bounds of a recipe are floats."""
    edge = 2**53
    (check,) = broken({"n": {"dtype": "int64", "max": float(edge)}}, {"n": [edge, edge + 1, -(2**63)]})
    assert check.detail == f"1 rows: row 2 ({edge + 1})"
    assert not broken({"n": {"dtype": "int64", "min": -(2.0**63), "max": 2.0**63}}, {"n": [2**63 - 1, -(2**63)]})
    (low,) = broken({"n": {"dtype": "int64", "min": 2.0**63}}, {"n": [2**63 - 1]})
    (high,) = broken({"n": {"dtype": "int64", "max": -(2.0**64)}}, {"n": [-(2**63)]})
    assert low.count == high.count == 1
    (half,) = broken({"n": {"dtype": "int64", "min": 0.5, "max": 1.5}}, {"n": [0, 1, 2]}, expectations={"min_rows": 4})[1:2]
    assert half.detail == "1 rows: row 1 (0)"
    assert not broken(
        {"n": NUMBER, "f": {"dtype": "float64"}}, {"n": [2**60 + 1], "f": [0.0]}, rules=["n > f", "n > 0.5", "n >= 1152921504606846977"]
    )


def test_a_pattern_is_for_the_whole_text_line_breaks_included() -> None:
    column = {"dtype": "string", "nullable": True, "pattern": "[a-z]+|[0-9]{2}"}
    (check,) = broken({"x": column}, {"x": ["abc", "42", None, "", "421", "abc\n", "Abc"]})
    assert check.rule == "pattern [a-z]+|[0-9]{2}"
    assert check.detail == "4 rows: row 4 (''), row 5 ('421'), row 6 ('abc\\n'), row 7 ('Abc')"


def test_lengths_are_counted_in_characters_not_bytes() -> None:
    column = {"dtype": "string", "min_length": 2, "max_length": 3}
    found = broken({"x": column}, {"x": ["🦓🦓🦓", "🦓", "名前", "four"]})
    assert [(check.rule, check.detail) for check in found] == [
        ("min_length 2", "1 rows: row 2 ('🦓')"),
        ("max_length 3", "1 rows: row 4 ('four')"),
    ]


def test_a_pattern_that_backtracks_elsewhere_takes_linear_time() -> None:
    began = time.process_time()
    (check,) = broken({"x": {"dtype": "string", "pattern": "(a+)+(b|c)?(a|aa)*"}}, {"x": ["a" * 50_000 + "!"]})
    assert check.count == 1
    assert time.process_time() - began < 2


def test_missing_cells_break_no_rule_but_not_null() -> None:
    columns = {"x": {"dtype": "float64", "nullable": True, "min": 0, "max": 1, "values": [0, 1], "unique": True}}
    assert not broken(columns, {"x": [float("nan"), None, float("nan"), None, 1.0]})
    (check,) = broken({"x": {"dtype": "float64"}}, {"x": [float("nan"), None, 1.0]})
    assert (check.rule, check.count) == ("not null", 2)


def test_a_key_repeated_across_the_border_of_two_blocks_is_found() -> None:
    spec = recipe(columns={"a": {"dtype": "int64"}, "b": {"dtype": "string"}}, key=["a", "b"], label=None)
    block = pa.table({"a": [1, 1], "b": ["x", "y"]})
    assert not examine(block, spec, before=pa.table({"a": [1], "b": ["w"]})).broken
    assert examine(block, spec, first_row=65_536, before=block.slice(0, 1)).broken[0].examples == ["row 65,537 (1, 'x')"]
    assert not examine(block, spec, before=block.slice(0, 0)).broken
