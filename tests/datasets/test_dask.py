"""The Dask engine: other processes work on the blocks, and what they come to is the same."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, recipe
from zebra_assets.datasets import stream
from zebra_assets.datasets.engines.dask import Dask
from zebra_assets.datasets.ingest import Ingested, ingest
from zebra_assets.errors import DataInvalid, Unavailable

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator["distributed.LocalCluster"]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as made:
        yield made


def by_dask(bench: Bench, cluster: "distributed.LocalCluster", **changes: object) -> Ingested:
    engine = Dask(cluster.scheduler_address)
    return ingest(recipe(**changes), project=bench.folder, store=bench.store, manifests=bench.manifests, engine=engine)


def test_dask_workers_make_the_same_manifest_as_this_process(
    bench: Bench, tmp_path: Path, cluster: "distributed.LocalCluster", monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Bench(tmp_path / "other")
    for one in (bench, other):
        one.put("a.csv", csv_bytes(people(3000)))
    here, there = bench.ingest(), by_dask(other, cluster)
    assert there.created
    assert there.manifest.hashes == here.manifest.hashes
    assert there.manifest.stats.rows_by_split == here.manifest.stats.rows_by_split
    assert [a.digest for a in there.manifest.artifacts] == [a.digest for a in here.manifest.artifacts]
    assert not list((other.folder / "objects").rglob(".tmp-*"))


def test_wrong_rows_are_told_by_dask_as_by_this_process(bench: Bench, cluster: "distributed.LocalCluster") -> None:
    bench.put("a.csv", csv_bytes(people(300)).replace(b"yes", b"maybe", 1))
    columns = COLUMNS | {"left": {"dtype": "string", "values": ["yes", "no"]}}
    with pytest.raises(DataInvalid, match="1 rows: row 1 \\('maybe'\\)") as here:
        bench.ingest(recipe(columns=columns))
    with pytest.raises(DataInvalid) as there:
        by_dask(bench, cluster, columns=columns)
    assert str(there.value) == str(here.value)
    assert bench.manifests.list() == []


def test_a_worker_that_is_killed_midway_changes_nothing(bench: Bench, tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    other = Bench(tmp_path / "other")
    for one in (bench, other):
        one.put("a.csv", csv_bytes(people(400_000)))
    here = bench.ingest()
    victim = next(iter(cluster.workers.values())).process.pid
    blobs = other.folder / "objects" / "blobs"

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not blobs.is_dir() and time.monotonic() < deadline:  # the first pieces have been written
            time.sleep(0.005)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    there = by_dask(other, cluster)
    killer.join()
    assert there.manifest.id == here.manifest.id
    assert len(there.manifest.hashes.blocks) == 1 + 400_000 // stream.BLOCK_ROWS
    assert other.rows(there).equals(bench.rows(here))


def test_a_scheduler_that_is_not_there_is_unavailable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra_assets.datasets.engines.dask.CONNECT_S", 1)
    bench.put("a.csv", csv_bytes(people(20)))
    with pytest.raises(Unavailable, match="cannot be reached"):
        ingest(recipe(), project=bench.folder, store=bench.store, manifests=bench.manifests, engine=Dask("tcp://127.0.0.1:9"))
