"""The Dask engine: other processes work on the blocks, and what they come to is the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.ingest.zebra import recipe as transactions
from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets import stream
from zebra_assets.datasets.engine import Engine
from zebra_assets.datasets.engines.dask import Dask
from zebra_assets.datasets.engines.threads import Threads
from zebra_assets.datasets.ingest import Ingested, ingest
from zebra_assets.errors import DataInvalid, Unavailable

GIGABYTE_ROWS = 6_093_142  # of the ingest benchmark's transactions
GIGABYTE_PIECES = 3 * (1 + GIGABYTE_ROWS // stream.BLOCK_ROWS)  # each block has rows of all three splits

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator["distributed.LocalCluster"]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as made:
        yield made


def by_dask(bench: Bench, cluster: "distributed.LocalCluster", **changes: object) -> Ingested:
    engine = Dask(cluster.scheduler_address)
    return ingest(recipe(**changes), project=bench.folder, store=bench.store, manifests=bench.manifests, engine=engine)


def by(bench: Bench, spec: DatasetSpec, engine: Engine) -> Ingested:
    return ingest(spec, project=bench.folder, store=bench.store, manifests=bench.manifests, engine=engine)


def timed(work: Callable[[], Ingested]) -> tuple[Ingested, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


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


@pytest.mark.slow
def test_a_gigabyte_by_two_workers_one_of_them_killed_midway_is_the_same_manifest(
    bench: Bench, tmp_path: Path, cluster: "distributed.LocalCluster"
) -> None:
    source = tmp_path / "transactions.csv"
    subprocess.run([sys.executable, "-m", "benchmarks.ingest.data", str(source), "--rows", str(GIGABYTE_ROWS)], check=True)
    assert source.stat().st_size > 990_000_000
    spec, other = DatasetSpec.model_validate(transactions(source)), Bench(tmp_path / "other")
    (here, alone_s), (blobs, killed) = timed(lambda: by(bench, spec, Threads())), (other.folder / "objects" / "blobs", list[int]())
    victim = next(w.process.pid for w in cluster.workers.values() if w.process is not None and w.process.is_alive())

    def kill() -> None:
        deadline = time.monotonic() + 600
        while sum(1 for _ in blobs.rglob("*") if _.is_file()) < GIGABYTE_PIECES // 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.append(sum(1 for _ in blobs.rglob("*") if _.is_file()))
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    there, together_s = timed(lambda: by(other, spec, Dask(cluster.scheduler_address)))
    killer.join()
    print(f"alone {alone_s:.1f} s; 2 workers {together_s:.1f} s, one killed when {killed[0]} of {GIGABYTE_PIECES} pieces were stored")
    assert GIGABYTE_PIECES // 2 <= killed[0] < GIGABYTE_PIECES
    assert there.manifest.id == here.manifest.id
    assert there.manifest.hashes == here.manifest.hashes
    assert [a.digest for a in there.manifest.artifacts] == [a.digest for a in here.manifest.artifacts]


def test_a_scheduler_that_is_not_there_is_unavailable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra_assets.datasets.engines.dask.CONNECT_S", 1)
    bench.put("a.csv", csv_bytes(people(20)))
    with pytest.raises(Unavailable, match="cannot be reached"):
        ingest(recipe(), project=bench.folder, store=bench.store, manifests=bench.manifests, engine=Dask("tcp://127.0.0.1:9"))
