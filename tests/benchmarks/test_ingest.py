"""The ingest benchmark at toy size: its data, its meter, its contestants and its verdicts are what they say."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.ingest import data, report
from benchmarks.ingest.contestants import PEERS, Data, Wrong, checked, size
from benchmarks.ingest.meter import STOPPED, Measured, measure
from benchmarks.ingest.peers.columns import COLUMNS, KEY, NULLABLE
from benchmarks.ingest.zebra import Shuffled, Zebra

ROWS = 3000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("csv")
    base, grown, shuffled = (folder / f"{name}.csv" for name in ("base", "grown", "shuffled"))
    data.write(base, data.ordered(0, ROWS))
    grown.write_bytes(base.read_bytes())
    data.write(grown, data.ordered(ROWS, ROWS + 30), append=True)
    data.write(shuffled, data.shuffled(ROWS))
    return Data("toy", ROWS, base, grown, ROWS + 30, shuffled)


def test_the_rows_are_the_same_in_any_order_and_a_grown_file_keeps_them(files: Data, tmp_path: Path) -> None:
    assert files.grown and files.shuffled
    lines = files.base.read_text().splitlines()
    assert files.grown.read_text().splitlines()[: ROWS + 1] == lines
    mixed = files.shuffled.read_text().splitlines()
    assert mixed != lines
    assert sorted(mixed[1:]) == lines[1:], "keys ascend and have one width"
    data.write(tmp_path / "later.csv", data.ordered(1000, 1005))
    assert (tmp_path / "later.csv").read_text().splitlines()[1:] == lines[1001:1006]


def test_one_cell_in_fifty_is_null_where_nulls_are_allowed() -> None:
    rows = data.table(next(data.ordered(0, 20_000)))
    assert rows.schema.names == list(COLUMNS)
    nulls = {name: rows[name].null_count / 20_000 for name in COLUMNS}
    assert all(0.015 < nulls[name] < 0.025 if name in NULLABLE else nulls[name] == 0 for name in COLUMNS), nulls
    assert len(rows[KEY].unique()) == len(rows["reference"].unique()) == 20_000


@pytest.mark.parametrize(("script", "arguments"), [("duckdb", []), ("pyarrow", []), ("pandas", ["c"]), ("pandas", ["pyarrow"])])
def test_every_recipe_writes_the_rows_that_the_generator_made(script: str, arguments: list[str], files: Data, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    argv = [sys.executable, str(PEERS / f"with_{script}.py"), str(files.base), str(out), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["rows"], said["columns"]) == (ROWS, len(COLUMNS))
    wanted = data.table(next(data.ordered(0, ROWS)))
    printed = pa.schema([(f.name, pa.string() if pa.types.is_decimal(f.type) else f.type) for f in wanted.schema])
    read = pa.schema([(f.name, pa.float64() if pa.types.is_decimal(f.type) else f.type) for f in wanted.schema])
    assert pq.read_table(out).sort_by(KEY).cast(read).equals(wanted.cast(printed).cast(read))


def test_the_limit_copies_every_byte(files: Data, tmp_path: Path) -> None:
    done = measure([sys.executable, str(PEERS / "limit.py"), str(files.base), str(tmp_path / "copy.csv")], cwd=tmp_path)
    assert done.failed is None
    assert (tmp_path / "copy.csv").read_bytes() == files.base.read_bytes()


def test_the_meter_counts_a_grandchild(tmp_path: Path) -> None:
    heavy = "import time; held = b'x' * 150_000_000; open('held', 'wb').write(held); end = time.process_time() + 0.3\n"
    heavy += "while time.process_time() < end: pass\ntime.sleep(0.3)"
    done = measure([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {heavy!r}])"], cwd=tmp_path)
    assert done.failed is None
    assert done.wall > 0.6
    assert done.cpu > 0.3
    assert done.rss > 150_000_000
    assert done.written == 0 or done.written > 140_000_000, "0 where the folder is in memory"


def test_the_meter_stops_what_takes_too_much_memory_and_says_why(tmp_path: Path) -> None:
    hungry = "import time; held = b'x' * 200_000_000; time.sleep(60)"
    done = measure([sys.executable, "-c", hungry], cwd=tmp_path, most_rss=100_000_000)
    assert (done.failed or "").startswith(STOPPED)
    assert "GB resident" in (done.failed or "")
    assert done.wall < 30


def test_what_a_command_says_of_its_failure_is_kept(tmp_path: Path) -> None:
    done = measure([sys.executable, "-c", "import sys; print('no such luck'); sys.exit(3)"], cwd=tmp_path)
    assert done.failed == "exit 3: no such luck"


@pytest.mark.slow  # six processes of the command line
def test_zebra_takes_its_turn_and_shuffled_rows_are_the_same_version(files: Data, tmp_path: Path) -> None:
    ids: dict[str, str] = {}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    steps = Zebra(ids=ids).turn(files, tmp_path / "a")
    assert {step: done.failed for step, done in steps.items()} == dict.fromkeys(["first", "again", "grown"])
    assert steps["again"].added == 0
    assert steps["first"].kept == steps["first"].added
    assert size(tmp_path / "a" / "project" / ".zebraops" / "objects") == steps["grown"].kept
    Shuffled(ids=ids).turn(files, tmp_path / "b")
    assert set(ids) == {"toyfirst", "toygrown"}
    assert ids["toyfirst"] != ids["toygrown"]


def test_a_contestant_that_lost_rows_has_no_figures(files: Data) -> None:
    done = Measured(1.0, 1.0, 1, 1, 0.0, said=json.dumps({"rows": ROWS - 1, "columns": 15, "bytes": 1}))
    with pytest.raises(Wrong, match=f"has {ROWS:,} rows"):
        checked("peer", done, files)
    assert checked("peer", replace(done, said=json.dumps({"rows": ROWS, "columns": 15, "bytes": 7})), files).kept == 7


def run(wall: float, **other: Any) -> dict[str, Any]:
    return {**Measured(wall, wall, 100_000_000, 0, 0.0, kept=100, added=100).plain(), **other}


def sized(rounds: list[report.Round], *, gigabytes: float = 1.0) -> report.Size:
    names = {name: "x" for one in rounds for name in one}
    return report.Size(f"{gigabytes:g} GB", int(gigabytes * 1e9), 10, rounds, names, names, "now")


def test_a_ratio_is_taken_within_its_round() -> None:
    rounds: list[report.Round] = [
        {"zebra": {"first": run(1.0)}, "duckdb": {"first": run(1.0)}},
        {"zebra": {"first": run(20.0)}, "duckdb": {"first": run(10.0)}},
        {"zebra": {"first": run(2.0)}, "duckdb": {"first": run(2.0)}},
    ]
    assert sized(rounds).ratio(("zebra", "first"), ("duckdb", "first")) == 1.0


def test_a_claim_above_its_bound_does_not_hold_and_one_without_figures_is_not_made() -> None:
    rounds: list[report.Round] = [{"zebra": {"first": run(1.2), "grown": run(1.0, added=2)}, "duckdb": {"first": run(1.0)}}]
    found = {c["claim"].split(": ", 1)[-1]: (c["value"], c["holds"]) for c in report.claims([sized(rounds)])}
    assert found == {
        "the full pipeline takes at most 1.1x the duckdb recipe's time (goal)": (1.2, False),
        "the full pipeline takes at most 1.3x the duckdb recipe's time (floor)": (1.2, True),
        "peak memory in MB is at most 600": (100.0, True),
        "new bytes as a share of the first version's, file store": (0.02, True),
    }


def test_who_ran_out_of_memory_stands_on_the_page_with_the_reason(tmp_path: Path) -> None:
    stopped = run(9.0, failed=f"{STOPPED} at 20.1 GB resident")
    small = sized([{"zebra": {"first": run(1.0)}, "pandas": {"first": run(3.0)}}])
    large = sized([{"zebra": {"first": run(5.0)}, "pandas": {"first": stopped}}], gigabytes=5)
    text = report.page([small, large], report.claims([small, large]), "a machine")
    assert "| pandas | stopped at 20.1 GB resident |" in text
    report.draw([small, large], tmp_path)
    assert (tmp_path / "ingest-time.svg").stat().st_size > 1000
    small.save(tmp_path / "rounds" / "10.json")
    assert report.Size.load(tmp_path / "rounds" / "10.json") == small
