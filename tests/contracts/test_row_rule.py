"""Rules across columns: a tiny language that is read whole or refused with the place, and never run as code."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from zebra_assets.contracts.dataset_spec import load_dataset_spec
from zebra_assets.contracts.row_rule import Column, Comparison, Fixed, Joined, Not, columns_of, read_rule
from zebra_assets.errors import SpecInvalid

DTYPES = {
    "a": "int64",
    "b": "float64",
    "s": "string",
    "t": "timestamp",
    "d": "date",
    "ok": "bool",
    "total charges": "float64",
    "and": "int64",
}


def test_a_comparison_names_two_columns_or_a_column_and_a_value() -> None:
    assert read_rule("a <= b", DTYPES) == Comparison(Column("a"), "<=", Column("b"))
    assert read_rule("`total charges`>=-1.5e3", DTYPES) == Comparison(Column("total charges"), ">=", Fixed(-1500.0))
    assert read_rule("'no' != s", DTYPES) == Comparison(Fixed("no"), "!=", Column("s"))
    assert read_rule('d < "2026-01-31"', DTYPES) == Comparison(Column("d"), "<", Fixed(date(2026, 1, 31)))
    assert read_rule("t >= '2026-01-31'", DTYPES) == Comparison(Column("t"), ">=", Fixed(datetime(2026, 1, 31, tzinfo=UTC)))
    assert read_rule("`and` == 1", DTYPES) == Comparison(Column("and"), "==", Fixed(1))


def test_and_binds_more_than_or_and_not_most() -> None:
    a, b = (Comparison(Column("a"), "<", Fixed(n)) for n in (1, 2))
    assert read_rule("a < 1 or a < 2 and not ok", DTYPES) == Joined("or", (a, Joined("and", (b, Not(Column("ok"))))))
    assert read_rule("(a < 1 or a < 2) and ok == false", DTYPES) == Joined(
        "and", (Joined("or", (a, b)), Comparison(Column("ok"), "==", Fixed(False)))
    )
    assert read_rule("0 <= a <= 9", DTYPES) == Joined(
        "and", (Comparison(Fixed(0), "<=", Column("a")), Comparison(Column("a"), "<=", Fixed(9)))
    )


def test_the_columns_of_a_rule_are_told_once_in_the_order_it_names_them() -> None:
    assert columns_of(read_rule("not (b < a or s == 'x') and a > 1", DTYPES)) == ["b", "a", "s"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "at character 1 comes 'the end' where a column or a value should"),
        ("a <", "at character 4 comes 'the end' where a column or a value should"),
        ("a = 1", "equality is written =="),
        ("a < 1 b", "at character 7 comes 'b' where the end of the rule should"),
        ("(a < 1", "comes 'the end' where and, or or ) should"),
        ("a < and b", "comes 'and' where a column or a value should"),
        ("a + 1 < 2", "'+ 1 < 2' is no part of a rule"),
        ("__import__('os').system('x') == 1", "is no part of a rule"),
        ("s == 'x", "is no part of a rule"),
        ("1a < 2", "is no part of a rule"),
        ("q < 1", "names column 'q', which `columns` does not list"),
        ("1 < 2", "compares two fixed values"),
        ("a", "column 'a' is int64; compare it with something"),
        ("'x'", "where a comparison should"),
        ("a == s", "compares int64 with string"),
        ("d < t", "compares date with timestamp"),
        ("a == 'x'", "compares int64 with 'x'"),
        ("a == true", "compares int64 with True"),
        ("s == 1", "compares string with 1"),
        ("d == 1", "compares date with 1"),
        ("ok < true", "true and false have no order"),
        ("t > 'soon'", "'soon' is no ISO 8601 timestamp"),
        ("a <= 9223372036854775808", "is beyond 64 bits"),
        ("(" * 30 + "a < 1" + ")" * 30, "nested deeper than 20"),
        ("not " * 30 + "ok", "nested deeper than 20"),
        ("a < 1 or " * 100 + "a < 1", "500 is the limit"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(rule: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_rule(rule, DTYPES)


RECIPE = """\
schema_version: 1
name: stays
source: {connector: files, path: a.csv}
columns:
  begin: {dtype: date}
  end: {dtype: date, nullable: true}
  code: {dtype: string}
rules:
  - begin <= end
"""


def stays(tmp_path: Path, old: str, new: str) -> str:
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "dataset.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(SpecInvalid) as caught:
        load_dataset_spec(tmp_path / "stays")
    return caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("begin <= end", "begin <= ende", "dataset.yaml:8: rules cannot be read: rule 'begin <= ende' names column 'ende'"),
        ("{dtype: string}", "{dtype: string, pattern: '(?=a)b'}", "dataset.yaml:7: columns.code.pattern: is no RE2 pattern"),
        ("{dtype: string}", "{dtype: string, pattern: '(a)\\1'}", "is no RE2 pattern"),
        ("{dtype: string}", "{dtype: string, pattern: 'a)|(b'}", "is no RE2 pattern"),
        ("{dtype: string}", "{dtype: string, pattern: '((a{999}){999}){999}'}", "is no RE2 pattern"),
        ("{dtype: string}", "{dtype: date, pattern: a}", "pattern, min_length and max_length are for text; the column is date"),
        ("{dtype: string}", "{dtype: string, min_length: 3, max_length: 2}", "min_length 3 is above max_length 2"),
        ("{dtype: string}", "{dtype: float64, max: .nan}", "columns.code.max: Input should be a finite number"),
    ],
)
def test_a_recipe_with_a_rule_that_cannot_be_kept_is_refused_at_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in stays(tmp_path, old, new)


def test_rules_are_read_from_yaml_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "dataset.yaml").write_text(RECIPE + '  - \'not (code == "x") or begin >= "2026-01-01"\'\n')
    spec = load_dataset_spec(tmp_path / "stays")
    assert spec.rules[1] == 'not (code == "x") or begin >= "2026-01-01"'
    assert [columns_of(rule) for rule in spec.conditions()] == [["begin", "end"], ["code", "begin"]]
