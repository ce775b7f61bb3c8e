"""kill -9 anywhere in an ingest leaves nothing half-visible, and a rerun completes.

Twice over: before every change of the disk in turn (an audit hook pulls the trigger, so none is forgotten when the code
changes), and at random moments. Children are forked from a server that has imported everything.
"""

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.digest import file_digest
from zebra_assets.datasets.ingest import ingest
from zebra_assets.errors import Unavailable

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["pandas", "pyarrow.pandas_compat", "zebra_assets.datasets.connectors.files", "tests.datasets.test_kill"])
TOUCHING = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.rmdir"}


def child(folder: Path, die_at: int | None = None, told: "multiprocessing.SimpleQueue[int] | None" = None) -> None:
    """Ingest in a child; with ``die_at`` it is killed before the n-th change of the disk, else it tells how many there were."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        changes = event in TOUCHING or (event == "open" and int(str(arguments[2] or 0)) & (os.O_WRONLY | os.O_RDWR))
        if changes and str(arguments[0]).startswith(str(folder)):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    bench = again(folder)
    ingest(recipe(), project=bench.folder, store=bench.store, manifests=bench.manifests)
    if told is not None:
        told.put(seen)


def again(folder: Path) -> Bench:
    """The bench of an existing folder."""
    bench = Bench.__new__(Bench)
    bench.folder, bench.stages = folder, []
    bench.open()
    return bench


def prepare(folder: Path, source: bytes) -> Path:
    file = Bench(folder).put("a.csv", source)
    os.utime(file, (time.time() - 60,) * 2)  # old enough for its digest to be written down, in every run alike
    return folder


def nothing_half_visible(bench: Bench) -> None:
    for manifest in bench.manifests.list():
        for artifact in manifest.artifacts:
            assert file_digest(bench.store.fetch(artifact.key)) == artifact.digest
    for key in bench.store.list("blobs/"):
        assert file_digest(bench.store.fetch(key)) == Path(key).stem


def lasting(bench: Bench) -> set[str]:
    """What rests on disk and is the same after every ingest of the same rows.

    Sketches of many rows differ from run to run, so a killed one may have left a blob of them; the cache of source digests
    remembers only files that have rested for two seconds.
    """
    return {f for f in bench.files() if "/.tmp-" not in f and not f.endswith((".arrow", "source-digests.json"))}


def completes(bench: Bench, expected: set[str]) -> None:
    bench.ingest()
    assert len(bench.manifests.list()) == 1
    nothing_half_visible(bench)
    assert lasting(bench) == expected


def run(folder: Path, *args: object) -> int | None:
    process = FORK.Process(target=child, args=(folder, *args))
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, set[str], int, float]:
    """The source, the files an undisturbed ingest leaves, how many changes of the disk it takes, and how long."""
    source = csv_bytes(people(3000))
    folder = prepare(tmp_path_factory.mktemp("whole") / "project", source)
    told = FORK.SimpleQueue()
    run(prepare(tmp_path_factory.mktemp("warm") / "project", source))
    began = time.monotonic()
    assert run(folder, None, told) == 0
    return source, lasting(again(folder)), told.get(), time.monotonic() - began


def test_a_kill_before_any_change_of_the_disk_leaves_nothing_half_visible(
    tmp_path: Path, whole: tuple[bytes, set[str], int, float]
) -> None:
    source, expected, changes, _ = whole
    assert changes > 15
    for die_at in range(1, changes + 1):
        folder = prepare(tmp_path / str(die_at), source)
        # Blobs are written by threads that share folders, so a run may get by with a few changes less than the one counted.
        assert run(folder, die_at) == -signal.SIGKILL or die_at > changes - 8
        nothing_half_visible(again(folder))
        completes(again(folder), expected)


def test_twenty_kills_at_random_moments_leave_nothing_half_visible(tmp_path: Path, whole: tuple[bytes, set[str], int, float]) -> None:
    source, expected, _, seconds = whole
    chance = random.Random(20)  # the moments differ anyway: the machine's load sees to it
    for round_ in range(20):
        folder = prepare(tmp_path / str(round_), source)
        process = FORK.Process(target=child, args=(folder,))
        process.start()
        process.join(chance.uniform(0, seconds))
        process.kill()
        process.join()
        nothing_half_visible(again(folder))
        completes(again(folder), expected)


def race(folder: Path, start: float, told: "multiprocessing.SimpleQueue[bool]") -> None:
    bench = again(folder)
    time.sleep(max(0, start - time.time()))
    told.put(ingest(recipe(), project=bench.folder, store=bench.store, manifests=bench.manifests).created)


def test_ingests_at_the_same_time_make_one_manifest(tmp_path: Path, whole: tuple[bytes, set[str], int, float]) -> None:
    folder = prepare(tmp_path / "project", whole[0])
    told = FORK.SimpleQueue()
    racers = [FORK.Process(target=race, args=(folder, time.time() + 0.3, told)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert sorted(told.get() for _ in racers) == [False, False, False, True]
    assert lasting(again(folder)) == whole[1]


def test_a_disk_that_takes_no_more_leaves_no_manifest(bench: Bench) -> None:
    """The kernel's file size limit stands in for a full disk: write() fails in the middle of a blob."""
    bench.put("a.csv", csv_bytes(people(20_000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
    try:
        with pytest.raises((Unavailable, OSError)):
            bench.ingest()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert bench.files() == set()
    assert bench.ingest().created
