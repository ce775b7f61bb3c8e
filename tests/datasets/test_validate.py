"""Checks: what passed and failed, as data; and the same rules for pandas people."""

import pandera.pandas as pandera
import pyarrow as pa
import pytest

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import load_dataset_spec
from zebra_assets.datasets.ingest import read_source
from zebra_assets.datasets.pandera_schema import pandera_schema
from zebra_assets.datasets.validate import validate

RULES = COLUMNS | {
    "visits": {"dtype": "int64", "min": 0, "max": 10_000, "unique": True},
    "left": {"dtype": "string", "values": ["yes", "no"]},
}


def test_an_ingest_tells_every_rule_that_held(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    checks = bench.ingest(recipe(columns=RULES)).checks
    told = {(c.column, c.rule) for c in checks}
    assert {("id", "key is unique"), ("left", "label null"), ("visits", "unique"), ("visits", "max 10000"), (None, "min_rows")} <= told
    assert all(c.passed and c.count == 0 for c in checks)


def test_row_numbers_are_those_of_the_source_whatever_the_canonical_order() -> None:
    table = people(20).take(pa.array(range(19, -1, -1)))
    broken = table.set_column(2, "visits", pa.array([-1] + [1] * 19))
    ordered, came_from = broken.sort_by("id"), pa.array(range(19, -1, -1))
    check = next(
        c for c in validate(ordered, recipe(columns=COLUMNS | {"visits": {"dtype": "int64", "min": 0}}), came_from) if not c.passed
    )
    assert (check.column, check.rule, check.count, check.detail) == ("visits", "min 0", 1, "1 rows: row 1 (-1)")


def test_pandera_accepts_what_the_ingest_accepts_and_refuses_what_it_refuses() -> None:
    schema = pandera_schema(recipe(columns=RULES))
    frame = people().to_pandas()
    assert len(schema.validate(frame)) == 200
    with pytest.raises(pandera.errors.SchemaError, match="greater_than_or_equal_to"):
        schema.validate(frame.assign(visits=-frame["visits"]))
    with pytest.raises(pandera.errors.SchemaError, match="non-nullable"):
        schema.validate(frame.assign(left=None))
    with pytest.raises(pandera.errors.SchemaError, match="not unique"):
        schema.validate(frame.assign(id="p1"))


def test_the_shipped_example_passes_its_own_rules_in_both(project: object) -> None:
    folder = project / "manifests" / "tabular-churn"  # type: ignore[operator]
    spec = load_dataset_spec(folder)
    table = read_source(spec, project=project)  # type: ignore[arg-type]
    assert all(c.passed for c in validate(table, spec))
    assert len(pandera_schema(spec).validate(table.to_pandas())) == 3947
