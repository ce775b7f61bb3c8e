"""The shipped example: real customers, a real shift, and a source script that can be run any time."""

import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc

from tests.datasets.conftest import Bench
from zebra_assets.contracts.dataset_spec import load_dataset_spec

REPO = Path(__file__).parents[2]
RECIPE = REPO / "manifests" / "tabular-churn"


def source(project: Path, *options: str, cwd: Path | None = None) -> str:
    argv = [sys.executable, str(REPO / "models/tabular-churn/source.py"), *options]
    return subprocess.run(argv if cwd else [*argv, "--project", str(project)], cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_the_fibre_launch_is_a_new_manifest_of_other_customers(bench: Bench) -> None:
    spec = load_dataset_spec(RECIPE)
    source(bench.folder)
    before = bench.ingest(spec)
    assert not bench.ingest(spec).created
    source(bench.folder, "--fibre")
    after = bench.ingest(spec)
    assert (before.manifest.stats.rows, after.manifest.stats.rows) == (3947, 7043)
    assert after.created
    rows = bench.rows_by_key(after, "customer_id")
    fibre = pc.equal(rows["internet_service"], "Fiber optic")
    left = pc.equal(rows["churn"], "Yes")
    assert round(pc.mean(left.filter(fibre)).as_py(), 2) == 0.42
    assert round(pc.mean(left.filter(pc.invert(fibre))).as_py(), 2) == 0.14
    assert rows["customer_id"][0].as_py() == "C00001"
    known = set(bench.rows_by_key(before, "customer_id")["customer_id"].to_pylist())
    assert not known & set(rows.filter(fibre)["customer_id"].to_pylist())


def test_a_customer_keeps_the_split_when_others_arrive(bench: Bench) -> None:
    spec = load_dataset_spec(RECIPE)
    source(bench.folder)
    before = bench.splits(bench.ingest(spec), "customer_id")
    source(bench.folder, "--fibre")
    after = bench.splits(bench.ingest(spec), "customer_id")
    assert before.items() <= after.items()


def test_the_source_script_writes_only_what_changed_and_finds_its_project(tmp_path: Path) -> None:
    for part in ("models/deep/down", "manifests"):
        (tmp_path / part).mkdir(parents=True)
    first = source(tmp_path, cwd=tmp_path / "models" / "deep" / "down")
    assert "3,947 customers" in first
    folder = tmp_path / ".zebraops" / "sources" / "tabular-churn"
    written = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert [p.name for p in written] == ["2026-01-before-fibre.csv"]
    assert "unchanged" in source(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == written
