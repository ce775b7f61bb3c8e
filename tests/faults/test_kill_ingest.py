"""kill -9 at random moments of an ingest: nothing is ever half-visible, and a rerun completes.

Children are forked from a server that has imported everything, so a round costs the ingest alone. The two hundred, in about
two minutes: `pytest -m slow tests/faults/test_kill_ingest.py`. Kills before each single change of the disk are in
`tests/datasets/test_kill.py`.
"""

import multiprocessing
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.naive import NaiveFiles
from tests.faults.rows import leftovers, run, source, wrongs
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store_file import FileStore

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["pandas", "pyarrow.pandas_compat", "zebra_assets.datasets.connectors.files", "tests.faults.test_kill_ingest"])
ROWS = 4000


def child(folder: Path, kind: type[FileStore]) -> None:
    run(source(folder, "shop", 0, ROWS), folder, kind(folder / "objects"))


def start(folder: Path, kind: type[FileStore]) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=child, args=(folder, kind))
    process.start()
    return process


def whole(folder: Path, kind: type[FileStore]) -> tuple[float, set[str]]:
    """Seconds of an undisturbed ingest with everything warm, and the keys it leaves."""
    for name in ("cold", "warm"):
        began = time.monotonic()
        process = start(folder / name, kind)
        process.join(60)
        assert process.exitcode == 0
    return time.monotonic() - began, rows_and_names(FileStore(folder / "warm" / "objects"))


def rows_and_names(store: FileStore) -> set[str]:
    """What the same rows leave in every run; sketches of them differ from run to run in their last bits."""
    return {key for key in store.list("") if key.endswith(".parquet") or key.startswith("manifests/")}


def kills(folder: Path, kind: type[FileStore], count: int) -> Iterator[tuple[bool, list[str]]]:
    """Kill ``count`` ingests; whether each died with something on disk, and what is wrong then."""
    seconds, expected = whole(folder, kind)
    chance = random.Random(200)
    for number in range(count):
        home = folder / str(number)
        process = start(home, kind)
        process.join(chance.uniform(0.02, seconds * 1.1))
        process.kill()
        process.join()
        store = FileStore(home / "objects")
        yield bool(leftovers(home)) or 0 < len(rows_and_names(store)) < len(expected), wrongs(store, home)
        if number % 5 == 0 and kind is FileStore:
            run(source(home, "shop", 0, ROWS), home, store)
            assert wrongs(store, home) == []
            assert rows_and_names(store) == expected
            assert len(ManifestFolder(home / "manifests", store).list()) == 1


def test_twenty_kills_leave_nothing_half_visible(tmp_path: Path) -> None:
    assert [wrong for _, wrong in kills(tmp_path, FileStore, 20) if wrong] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_kills_leave_nothing_half_visible(tmp_path: Path) -> None:
    rounds = list(kills(tmp_path, FileStore, 200))
    assert [wrong for _, wrong in rounds if wrong] == []
    in_the_act = sum(writing for writing, _ in rounds)
    print(f"200 kills, {in_the_act} of them while something was being written")
    assert in_the_act >= 10, "the moments missed the writing: the rounds prove little"


@pytest.mark.timeout(120)
def test_a_store_that_writes_to_the_final_name_is_caught(tmp_path: Path) -> None:
    """The same rounds on a planted bug: a harness that cannot go red proves nothing."""
    assert any(wrong for _, wrong in kills(tmp_path, NaiveFiles, 60)), "it stops at the first"
