"""The recipe's rules as asset checks: every one is shown, on what was stored and on what an ingest refused."""

import dagster as dg
import pyarrow as pa
import pytest

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, recipe
from tests.datasets.conftest import bench as bench  # the fixture
from tests.defs.conftest import MODEL, Site
from zebra_assets.datasets.recheck import recheck
from zebra_assets.datasets.rules import rules_of
from zebra_assets.defs.build import build_defs
from zebra_assets.defs.datasets import rows_keep_the_recipe


def test_every_rule_of_the_recipe_stands_in_the_check(bench: Bench) -> None:
    bench.put("rows.csv", csv_bytes(people()))
    columns = COLUMNS | {
        "visits": {"dtype": "int64", "min": 0, "max": 10_000, "unique": True},
        "left": {"dtype": "string", "pattern": "yes|no"},
    }
    spec = recipe(columns=columns, rules=["amount <= visits or amount > 1"], expectations={"max_rows": 1000})
    shown = rows_keep_the_recipe(bench.ingest(spec).manifest, bench.store, spec)
    assert shown.passed
    rules = {(", ".join(rule.columns), rule.name.replace("|", "\\|")) for rule in rules_of(spec)} | {
        ("(table)", "min_rows"),
        ("(table)", "max_rows"),
    }
    lines = str(shown.metadata["every rule"].value).splitlines()[2:]
    assert {
        tuple(cell.strip() for cell in line.replace("\\|", "\0").replace("|", "\1").replace("\0", "\\|").split("\1")[1:3]) for line in lines
    } == rules
    assert shown.metadata["rules"].value == len(rules)


def test_a_rule_added_since_the_ingest_shows_as_a_warning_with_its_rows(bench: Bench) -> None:
    bench.put("rows.csv", csv_bytes(people()))
    manifest = bench.ingest().manifest
    stricter = recipe(columns=COLUMNS | {"member": {"dtype": "bool", "values": [True]}}, rules=["visits < 3"], sensitive=["visits"])
    shown = rows_keep_the_recipe(manifest, bench.store, stricter)
    assert (shown.passed, shown.severity) == (False, dg.AssetCheckSeverity.WARN)
    table = str(shown.metadata["every rule"].value)
    assert "| member | one of True | broken by 133 | 133 rows: row " in table
    assert "| visits | visits < 3 | broken by 199 |" in table
    assert "(***)" in table


@pytest.mark.parametrize("splits", [{"strategy": "explicit", "column": "part"}, {}], ids=["explicit", "hash"])
def test_stored_rows_are_asked_what_the_ingest_asked(bench: Bench, splits: dict[str, str]) -> None:
    parts = pa.array([("train", "valid", "test")[i % 3] for i in range(200)])
    bench.put("rows.csv", csv_bytes(people().append_column("part", parts)))
    columns = COLUMNS | {"part": {"dtype": "string"}, "visits": {"dtype": "int64", "unique": True}}
    spec = recipe(columns=columns, splits=splits)
    done = bench.ingest(spec)
    assert [(c.column, c.rule) for c in recheck(done.manifest, bench.store, spec)] == [
        (c.column, c.rule) for c in done.checks if c.severity == "error"
    ]
    keyed = spec.model_copy(update={"key": ["member", "left"]})
    broken = [c for c in recheck(done.manifest, bench.store, keyed) if not c.passed]
    assert [(c.rule, c.column, c.count) for c in broken] == [("key is unique", "member, left", 196)], "across splits too"


def test_a_manifest_of_other_columns_is_not_judged_by_them(bench: Bench) -> None:
    bench.put("rows.csv", csv_bytes(people()))
    done = bench.ingest()
    (check,) = recheck(done.manifest, bench.store, recipe(columns=COLUMNS | {"visits": {"dtype": "float64"}, "shoe": {"dtype": "int64"}}))
    assert (check.passed, check.detail) == (False, "the manifest has other columns: shoe, visits")


def test_an_ingest_that_is_refused_shows_as_a_failed_check_and_the_next_good_one_as_a_passed_one(site: Site) -> None:
    source = next((site.folder / ".zebraops" / "sources" / MODEL).glob("*.csv"))
    good = source.read_text()
    key = dg.AssetCheckKey(dg.AssetKey([MODEL, "dataset"]), "rows_keep_the_recipe")

    def ingested() -> tuple[bool, dg.AssetCheckEvaluation]:
        job = build_defs(project_dir=site.folder).resolve_job_def(f"{MODEL.replace('-', '_')}_ingest")
        with site.instance() as instance:
            done = job.execute_in_process(instance=instance, raise_on_error=False)
            record = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
            return done.success, record.event.dagster_event.asset_check_evaluation_data

    header, first = good.splitlines()[:2]
    tenure = header.split(",").index("tenure")
    cells = first.split(",")
    cells[tenure] = "-1"
    source.write_text(good.replace(first, ",".join(cells), 1))
    success, told = ingested()
    assert (success, told.passed, told.partition) == (False, False, None)
    assert "column 'tenure': min 0: 1 rows: row 1 (-1)" in str(told.metadata["refused"].value)
    source.write_text(good)
    for _ in range(2):
        success, told = ingested()
        assert (success, told.passed, told.partition) == (True, True, site.manifest_id)
        assert told.metadata["source"].value == "unchanged since these rows were read"
    source.write_text("".join(line + "\n" for line in [header, *reversed(good.splitlines()[1:])]))
    success, told = ingested()
    assert (success, told.passed, told.partition) == (True, True, site.manifest_id)
    assert "| tenure | min 0 | held |" in str(told.metadata["every rule"].value)
