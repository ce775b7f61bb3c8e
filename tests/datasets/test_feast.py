"""Feast: the features each entity row had at its own time, from a repository on disk with its registry in SQLite."""

import csv
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.conftest import Bench, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.ingest import revision_of
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, ZebraError

# Not in the lock: Feast plugs itself into MLflow's requests, so wherever it is installed, MLflow's first call imports it (3 s) and
# Prometheus' client of that process counts in multi-process mode.
pytest.importorskip("feast")

T0 = datetime(2026, 1, 1, tzinfo=UTC)
REPO = Path(__file__).parents[2]
DRIVERS = 40
FEATURES = ["stats:rate", "stats:trips"]
COLUMNS = {
    "trip": {"dtype": "string"},
    "driver": {"dtype": "int64"},
    "event_timestamp": {"dtype": "timestamp"},
    "rate": {"dtype": "float64", "nullable": True},
    "trips": {"dtype": "int64", "nullable": True},
    "late": {"dtype": "string"},
}
APPLY = """
import sys
from datetime import timedelta
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64
driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
source = FileSource(path="data/stats.parquet", timestamp_field="ts", created_timestamp_column="created")
fields = [Field(name="rate", dtype=Float64), Field(name="trips", dtype=Int64)]
stats = FeatureView(name="stats", entities=[driver], ttl=timedelta(days=30), schema=fields, source=source)
FeatureStore(repo_path=sys.argv[1]).apply([driver, stats, FeatureService(name="drivers", features=[stats])])
"""
YAML = """\
project: shop
registry: {{registry_type: sql, path: "sqlite:///{folder}/data/registry.db"}}
provider: local
offline_store: {{type: file}}
online_store: {{type: sqlite, path: data/online.db}}
entity_key_serialization_version: 3
"""


def stats(days: int = 10) -> pa.Table:
    """What was known of each driver, day by day; every value is another, so that the wrong day shows."""
    moments = [T0 + timedelta(days=d) for d in range(days) for _ in range(DRIVERS)]
    n = len(moments)
    when = pa.array(moments, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {"driver": list(range(DRIVERS)) * days, "ts": when, "created": when, "rate": [i / 8 for i in range(n)], "trips": range(n)}
    )


def rides() -> list[dict[str, Any]]:
    """Entity rows: a driver nobody knows, a row before anything was known, two rows of one driver and time, early and not."""
    rows = [
        {"trip": f"t{i:04d}", "driver": i % DRIVERS, "event_timestamp": (T0 + timedelta(hours=3 * i + 1)).isoformat(), "late": "yn"[i % 2]}
        for i in range(70)
    ]
    rows[5]["driver"] = 999
    rows[7]["event_timestamp"] = (T0 - timedelta(days=1)).isoformat()
    for twin, of in ((8, 7), (20, 19)):
        rows[twin] |= {name: rows[of][name] for name in ("driver", "event_timestamp")}
    return rows


def joined(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The join by its definition: the newest value of the driver at or before the row's own time."""
    known = stats().to_pylist()

    def at(row: dict[str, Any]) -> dict[str, Any]:
        moment = datetime.fromisoformat(row["event_timestamp"])
        facts = [s for s in known if s["driver"] == row["driver"] and s["ts"] <= moment]
        newest = max(facts, key=lambda s: s["ts"], default={"rate": None, "trips": None})
        return row | {"rate": newest["rate"], "trips": newest["trips"]}

    return [at(row) for row in rows]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A project with a feature repository that `feast apply` has seen."""
    bench = Bench(tmp_path_factory.mktemp("feast") / "project")
    (bench.folder / "repo" / "data").mkdir(parents=True)
    (bench.folder / "repo" / "feature_store.yaml").write_text(YAML.format(folder=bench.folder / "repo"))
    pq.write_table(stats(), bench.folder / "repo" / "data" / "stats.parquet")
    subprocess.run([sys.executable, "-W", "ignore", "-c", APPLY, str(bench.folder / "repo")], check=True, capture_output=True)
    write_csv(bench.folder / "data" / "rides.csv", rides())
    return bench


def feast(path: str = "repo", query: str | None = None, **parameters: Any) -> DatasetSpec:
    chosen = {"entities": "data/rides.csv", "features": FEATURES} | parameters
    chosen = {name: value for name, value in chosen.items() if value is not None}
    source = {"connector": "feast", "path": path, "query": query, "parameters": chosen}
    return recipe(source=source, columns=COLUMNS, key=["trip"], label=None)


@pytest.mark.filterwarnings("ignore")  # feast's and dask's own
def test_features_as_of_each_rows_time_have_the_manifest_id_of_the_same_rows_in_a_csv(bench: Bench) -> None:
    done = bench.ingest(feast())
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ  # Feast's import sets it, and every server started later would count elsewhere
    write_csv(bench.folder / "data" / "joined.csv", joined(rides()))
    same = recipe(source={"connector": "files", "path": "data/joined.csv"}, columns=COLUMNS, key=["trip"], label=None)
    assert bench.ingest(same).manifest.id == done.manifest.id
    assert done.manifest.source.revision == revision_of(feast(), project=bench.folder)
    pq.write_table(
        pa.Table.from_pylist([r | {"event_timestamp": datetime.fromisoformat(r["event_timestamp"])} for r in rides()]),
        bench.folder / "data" / "rides.parquet",
    )
    for spec in (feast(features=None, service="drivers"), feast(entities="data/rides.parquet"), feast(filter_by_created_timestamp=True)):
        assert bench.ingest(spec).manifest.id == done.manifest.id


@pytest.mark.filterwarnings("ignore")
def test_the_revision_moves_with_the_entities_and_with_the_features(bench: Bench) -> None:
    first = revision_of(feast(), project=bench.folder)
    assert first is not None and revision_of(feast(), project=bench.folder) == first
    assert revision_of(feast(features=["stats:rate"]), project=bench.folder) != first
    for file in (bench.folder / "data" / "rides.csv", bench.folder / "repo" / "data" / "stats.parquet"):
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert revision_of(feast(), project=bench.folder) != first
        file.write_bytes(before)
    assert revision_of(feast(), project=bench.folder) == first
    assert revision_of(feast(entities=None, query="SELECT 1"), project=bench.folder) is None
    assert revision_of(feast(path="nowhere"), project=bench.folder) is None


@pytest.mark.filterwarnings("ignore")
def test_what_feast_cannot_do_is_said_in_words(bench: Bench) -> None:
    (bench.folder / "data" / "timeless.csv").write_text("trip,driver,late\nt,1,y\n")
    (bench.folder / "data" / "keyless.csv").write_text("trip,event_timestamp,late\nt,2026-01-02T00:00:00Z,y\n")
    wrong: list[tuple[DatasetSpec, type[ZebraError], str]] = [
        (feast(path="nowhere"), NotFound, "no feature repository at nowhere"),
        (feast(path="../repo"), Refused, r"contains '\.\.'"),
        (feast(entities="data/none.csv"), NotFound, "no entity file data/none.csv"),
        (feast(entities="data/timeless.csv"), DataInvalid, "no column event_timestamp"),
        (feast(entities="data/keyless.csv"), SpecInvalid, "driver"),
        (feast(features=["stats:nope"]), SpecInvalid, "nope"),
        (feast(features=["rate"]), SpecInvalid, "Invalid feature reference"),
        (feast(features=["none:rate"]), NotFound, "Feature view none does not exist"),
        (feast(features=None, service="none"), NotFound, "Feature service none does not exist"),
        (feast(features=["stats:rate"]), DataInvalid, "'trips' is missing"),
        (feast(service="drivers"), SpecInvalid, "either `features` or `service`"),
        (feast(query="SELECT 1"), SpecInvalid, "from a file or from a query"),
        (feast(entities=None, query="SELECT 1"), SpecInvalid, "feast refused"),
    ]
    before = bench.manifests.list()
    for spec, kind, says in wrong:
        with pytest.raises(kind, match=says) as refused:
            bench.ingest(spec)
        assert refused.value.fix
    stats_file = bench.folder / "repo" / "data" / "stats.parquet"
    content = stats_file.read_bytes()
    stats_file.unlink()
    with pytest.raises(NotFound, match="is not there"):
        bench.ingest(feast())
    stats_file.write_bytes(content)
    assert bench.manifests.list() == before


def test_without_feast_the_connector_names_the_extra_and_nothing_is_sent_anywhere_with_it(bench: Bench) -> None:
    """One process without the library; one with it, where any connection to another machine would raise."""
    program = textwrap.dedent("""
        import socket, sys
        from pathlib import Path
        real = socket.socket.connect
        def connect(self, address):
            assert self.family == socket.AF_UNIX, address
            return real(self, address)
        socket.socket.connect = connect
        if sys.argv[1] == "without":
            sys.modules["feast"] = None
        from zebra_assets.contracts.dataset_spec import SourceSpec
        from zebra_assets.datasets.connectors.feast import Feast
        from zebra_assets.errors import SpecInvalid
        source = SourceSpec(connector="feast", path="repo", parameters={"entities": "data/rides.csv", "features": ["stats:rate"]})
        try:
            found = Feast(source, project=Path.cwd(), secrets={})
            print(sum(b.num_rows for b in found.batches({"trip": "string", "rate": "float64"})))
        except SpecInvalid as error:
            print(error.fix)
    """)
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, word], cwd=bench.folder, env={**os.environ, "PYTHONPATH": str(REPO)},
            capture_output=True, text=True, check=True,
        ).stdout
        for word in ("without", "with")
    ]  # fmt: skip
    assert said == ["pip install 'feast>=0.67'\n", "70\n"]
