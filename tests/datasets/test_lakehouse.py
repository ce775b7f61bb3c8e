"""Delta and Iceberg tables, written by their own libraries: a version is pinned, read as it was, and missed out loud."""

import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import Catalog, load_catalog

from tests.adapters.s3_servers import CREDENTIALS, credentials, moto
from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec, SourceSpec
from zebra_assets.datasets.connectors.delta import Delta
from zebra_assets.datasets.ingest import revision_of
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable, ZebraError

__all__ = ["credentials", "moto"]  # fixtures
AWAY = "http://127.0.0.1:9"  # nothing listens at port 9


def delta(path: str = "data/people", **parameters: Any) -> DatasetSpec:
    return recipe(source={"connector": "delta", "path": path, "parameters": parameters})


def iceberg(path: str = "shop.people", url: str | None = "sqlite:///catalog.db", **parameters: Any) -> DatasetSpec:
    return recipe(source={"connector": "iceberg", "path": path, "url": url, "parameters": parameters})


def csv_id(bench: Bench, table: pa.Table) -> str:
    """The manifest id of the same rows in a CSV."""
    bench.put("rows.csv", csv_bytes(table))
    return bench.ingest(recipe(source={"connector": "files", "path": "data/rows.csv"})).manifest.id


def catalog(bench: Bench, warehouse: str = "", **more: str) -> Catalog:
    """A catalog in the project, with the namespace `shop`."""
    found = load_catalog(
        "default", type="sql", uri=f"sqlite:///{bench.folder}/catalog.db", warehouse=warehouse or bench.folder.as_uri(), **more
    )
    found.create_namespace_if_not_exists("shop")
    return found


def wider(table: pa.Table) -> pa.Table:
    """The rows as a lake holds them: other types for the same values, columns that the recipe does not want."""
    table = table.set_column(2, "visits", table["visits"].cast(pa.int32())).append_column("basket", pa.array([[{"sku": 1}]] * len(table)))
    return table.append_column("price", pa.array(range(len(table)), pa.int64()).cast(pa.decimal128(21, 2))).select(
        ["price", "basket", *reversed(COLUMNS)]
    )


def test_a_version_of_a_delta_table_has_the_manifest_id_of_the_same_rows_in_a_csv(bench: Bench) -> None:
    table, place = people(), bench.folder / "data" / "people"
    write_deltalake(place, wider(table.slice(0, 120)), partition_by=["left"])
    write_deltalake(place, wider(table.slice(120)), mode="append")
    done = bench.ingest(delta())
    assert done.manifest.id == csv_id(bench, table)
    assert done.manifest.source.revision == f"{DeltaTable(place).metadata().id}@1" == revision_of(delta(), project=bench.folder)
    assert bench.ingest(delta(version=0)).manifest.id == csv_id(bench, table.slice(0, 120))
    write_deltalake(place, wider(table.slice(0, 3)), mode="overwrite")
    assert bench.ingest(delta(version=1)).manifest.id == done.manifest.id


def test_rows_that_were_deleted_are_not_read(bench: Bench) -> None:
    place, table = bench.folder / "data" / "people", people()
    write_deltalake(place, table)
    DeltaTable(place).delete("id < 'p00050'")
    assert bench.ingest(delta()).manifest.id == csv_id(bench, table.slice(50))


def test_a_delta_version_as_of_a_time_is_the_newest_there_was(bench: Bench) -> None:
    place, table = bench.folder / "data" / "people", people()
    for rows in (40, 80, 200):
        write_deltalake(place, table.slice(0, rows), mode="overwrite")
    at = {c["version"]: datetime.fromtimestamp(c["timestamp"] / 1000, UTC) for c in DeltaTable(place).history()}
    for version, moment in at.items():
        assert (revision_of(delta(as_of=moment.isoformat()), project=bench.folder) or "").endswith(f"@{version}")
    with pytest.raises(NotFound, match="no version of 2020-01-01"):
        bench.ingest(delta(as_of="2020-01-01"))


def test_what_was_settled_stays_while_writers_go_on(bench: Bench) -> None:
    place = bench.folder / "data" / "people"
    write_deltalake(place, people(50))
    connector = Delta(SourceSpec(connector="delta", path="data/people"), project=bench.folder, secrets={})
    before = connector.revision()
    write_deltalake(place, people(80), mode="overwrite")
    assert sum(b.num_rows for b in connector.batches({"id": "string"})) == 50
    assert connector.revision() == before


def test_a_delta_version_that_is_gone_is_said_to_be(bench: Bench) -> None:
    place = bench.folder / "data" / "people"
    with pytest.raises(NotFound, match="no Delta table"):
        bench.ingest(delta())
    write_deltalake(place, people(50))
    write_deltalake(place, people(80), mode="overwrite")
    with pytest.raises(NotFound, match="newest version is 1") as gone:
        bench.ingest(delta(version=7))
    assert gone.value.fix and gone.value.fix.startswith("version: 1")
    DeltaTable(place).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(NotFound, match="vacuumed"):
        bench.ingest(delta(version=0))
    DeltaTable(place).create_checkpoint()
    (place / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(NotFound, match="at version 0 cannot be loaded"):
        bench.ingest(delta(version=0))
    assert revision_of(delta(version=0), project=bench.folder) is None
    for file in place.glob("*.parquet"):
        file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(DataInvalid, match="cannot be read"):
        bench.ingest(delta())
    assert bench.manifests.list() == []


def test_a_snapshot_of_an_iceberg_table_has_the_manifest_id_of_the_same_rows_in_a_csv(bench: Bench) -> None:
    table = people()
    lake = catalog(bench).create_table("shop.people", schema=wider(table).schema)
    lake.append(wider(table.slice(0, 120)))
    first = lake.current_snapshot()
    assert first is not None
    lake.append(wider(table.slice(120)))
    lake.manage_snapshots().create_tag(first.snapshot_id, "friday").commit()
    done = bench.ingest(iceberg())
    assert done.manifest.id == csv_id(bench, table)
    second = lake.current_snapshot()
    assert second is not None and done.manifest.source.revision == f"{lake.metadata.table_uuid}@{second.snapshot_id}"
    lake.delete("id < 'p00050'")
    as_of = datetime.fromtimestamp(second.timestamp_ms / 1000, UTC).isoformat()
    assert bench.ingest(iceberg(as_of=as_of)).manifest.id == done.manifest.id
    assert bench.ingest(iceberg()).manifest.id == csv_id(bench, table.slice(50))
    for pin in ({"snapshot": first.snapshot_id}, {"ref": "friday"}):
        assert bench.ingest(iceberg(**pin)).manifest.id == csv_id(bench, table.slice(0, 120))
    # A column renamed since: a snapshot is read by the names it had.
    with lake.update_schema() as change:
        change.rename_column("left", "gone")
    lake.append(wider(people(60)).rename_columns({"left": "gone"}))
    assert bench.ingest(iceberg(ref="friday")).manifest.id == csv_id(bench, table.slice(0, 120))
    with pytest.raises(DataInvalid, match="'left' is missing"):
        bench.ingest(iceberg())


def test_a_snapshot_that_expired_is_said_to_have(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no catalog"):
        bench.ingest(iceberg())
    shop = catalog(bench)
    with pytest.raises(NotFound, match=r"no Iceberg table default:shop.people"):
        bench.ingest(iceberg())
    lake = shop.create_table("shop.people", schema=people().schema)
    assert revision_of(iceberg(), project=bench.folder) is None
    with pytest.raises(DataInvalid, match="no rows"):
        bench.ingest(iceberg())
    lake.append(people(50))
    first = lake.current_snapshot()
    lake.append(people(80))
    assert first is not None
    lake.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    newest = lake.refresh().current_snapshot()
    for pin in ({"snapshot": first.snapshot_id}, {"as_of": "2020-01-01"}, {"ref": "friday"}):
        with pytest.raises(NotFound, match="expired, or never there") as gone:
            bench.ingest(iceberg(**pin))
        assert newest is not None and gone.value.fix == f"snapshot: {newest.snapshot_id}"
    next((bench.folder / "shop").rglob("data/*.parquet")).unlink()
    with pytest.raises(NotFound, match=r"A file of .* is gone"):
        bench.ingest(iceberg())
    assert bench.manifests.list() == []


def test_a_table_without_a_catalog_is_read_by_its_metadata(bench: Bench) -> None:
    lake = catalog(bench).create_table("shop.people", schema=people().schema)
    lake.append(people())
    metadata = Path(lake.metadata_location.removeprefix("file://")).relative_to(bench.folder)
    assert bench.ingest(iceberg(str(metadata), url=None)).manifest.id == csv_id(bench, people())


def test_reading_makes_no_tables_in_a_catalog(bench: Bench) -> None:
    import sqlite3

    file = bench.folder / "catalog.db"
    sqlite3.connect(file).close()
    file.touch()
    with pytest.raises(ZebraError):
        bench.ingest(iceberg())
    with sqlite3.connect(file) as db:
        assert db.execute("select count(*) from sqlite_master").fetchone() == (0,)
    db.close()


@pytest.mark.parametrize("write", ["delta", "iceberg"])
def test_types_that_a_recipe_cannot_hold_are_the_casters_matter(bench: Bench, write: str) -> None:
    """Decimals that are no float, times with a time of day that are no date, structs: told by column, not skipped."""
    table = pa.table({
        "id": ["a", "b", "c"],
        "money": pa.array(["0.10", "0.25", "123456789012345678.01"]).cast(pa.decimal128(30, 2)),
        "day": pa.array([0, 86_400_000_000, 5], pa.timestamp("us")),
        "nest": [{"a": 1}, {"a": 2}, None],
    })  # fmt: skip
    if write == "delta":
        write_deltalake(bench.folder / "data" / "people", table)
        source = delta().source
    else:
        catalog(bench).create_table("shop.people", schema=table.schema).append(table)
        source = iceberg().source
    columns = {"id": "string", "money": "int64", "day": "date", "nest": "string"}
    spec = recipe(source=source, columns={k: {"dtype": v, "nullable": k != "id"} for k, v in columns.items()}, label=None)
    with pytest.raises(DataInvalid) as wrong:
        bench.ingest(spec)
    for column in ("money", "day", "nest"):
        assert f"column '{column}' is declared" in wrong.value.message


def test_tables_in_a_bucket_have_the_same_manifest_id(bench: Bench, moto: str) -> None:
    """Keys and endpoint are the deployment's; the recipe names the bucket only."""
    table, bucket = people(), f"s3://lake/{uuid.uuid4().hex}"
    secrets = {**CREDENTIALS, "ZEBRA_S3_ENDPOINT_URL": moto}
    storage = {"AWS_ENDPOINT_URL": moto, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
    write_deltalake(f"{bucket}/delta", table, storage_options=storage)
    at_delta = bench.ingest(delta(f"{bucket}/delta"), **secrets)
    s3 = {"s3.endpoint": moto, "s3.access-key-id": "zk", "s3.secret-access-key": "zs", "s3.region": "us-east-1"}
    lake = catalog(bench, warehouse=f"{bucket}/wh", **s3).create_table("shop.people", schema=table.schema)
    lake.append(table)
    at_iceberg = bench.ingest(iceberg(), **secrets)
    assert at_delta.manifest.id == at_iceberg.manifest.id == csv_id(bench, table)
    assert at_delta.manifest.source.location == f"{bucket}/delta"
    assert bench.ingest(iceberg(lake.metadata_location, url=None), **secrets).manifest.id == at_delta.manifest.id
    with pytest.raises(NotFound):
        bench.ingest(delta(f"{bucket}/none"), **secrets)


def test_a_server_that_is_away_is_no_missing_table(bench: Bench) -> None:
    secrets = {**CREDENTIALS, "ZEBRA_S3_ENDPOINT_URL": AWAY}
    with pytest.raises(Unavailable, match="s3://lake/people cannot be reached"):
        bench.ingest(delta("s3://lake/people"), **secrets)
    with pytest.raises(Unavailable, match="cannot be reached"):
        bench.ingest(iceberg(url="${LAKE}"), LAKE=AWAY)
    with pytest.raises(Unavailable, match="cannot be reached"):
        bench.ingest(iceberg(url="postgresql+psycopg2://zebra:hunter2@127.0.0.1:9/x"))


@pytest.mark.parametrize(
    ("spec", "kind", "says"),
    [
        (delta("../people"), Refused, r"contains '\.\.'"),
        (delta("https://lake/people"), Refused, "no table is read from https://"),
        (delta("memory://people"), Refused, "no table is read from memory://"),
        (delta(version=1, as_of="2026-01-01"), SpecInvalid, "both name a version"),
        (delta(version=-1), SpecInvalid, "greater than or equal to 0"),
        (delta(versoin=1), SpecInvalid, "Did you mean 'version'"),
        (delta("${NONE}/x"), SpecInvalid, "secret NONE"),
        (iceberg("people"), SpecInvalid, "no namespace"),
        (iceberg("../v1.metadata.json"), Refused, r"contains '\.\.'"),
        (iceberg(snapshot=1, ref="main"), SpecInvalid, "all name a snapshot"),
        (iceberg(url="http://127.0.0.1:9"), Refused, "not in a recipe"),
        (iceberg(url="thrift://127.0.0.1:9"), Refused, "not in a recipe"),
        (iceberg(url="sqlite:///../x.db"), Refused, "leaves"),
        (iceberg(url=None, catalog="nowhere"), SpecInvalid, "URI missing"),
        (iceberg(properties={"py-io-impl": "os.system"}), Refused, "names code to run"),
        (iceberg(properties={"py-catalog-impl": "x.Y"}), Refused, "names code to run"),
        (iceberg(properties={"s3.endpoint": "127.0.0.1:9"}), Refused, "is an address"),
        (iceberg(properties={"uri": "http://127.0.0.1:9"}), Refused, "is an address"),
        (iceberg(properties={"prefix": "http://127.0.0.1:9"}), Refused, "is an address"),
    ],
)
def test_recipes_that_are_wrong_or_reach_too_far_are_refused(bench: Bench, spec: DatasetSpec, kind: type[ZebraError], says: str) -> None:
    with pytest.raises(kind, match=says) as refused:
        bench.ingest(spec)
    assert refused.value.fix


@pytest.mark.parametrize(("name", "library"), [("delta", "deltalake"), ("iceberg", "pyiceberg")])
def test_without_its_library_a_connector_names_the_extra(tmp_path: Path, name: str, library: str) -> None:
    program = f"""
import sys
sys.modules["{library}"] = None
from zebra_assets import kinds
from zebra_assets.contracts.dataset_spec import SourceSpec
from zebra_assets.errors import SpecInvalid
from pathlib import Path
open("catalog.db", "w").close()
source = SourceSpec(connector="{name}", path="shop.people", url="sqlite:///catalog.db")
try:
    kinds.find("connector", "{name}")(source, project=Path.cwd(), secrets={{}}).revision()
except SpecInvalid as error:
    print(error.fix)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "pip install 'zebraops[lakehouse]'\n"
