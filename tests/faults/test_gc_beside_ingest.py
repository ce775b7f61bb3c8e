"""A collector beside real ingests that reuse old orphans: no manifest ever names a blob that it took.

The orders of single steps are walked through in `tests/adapters/test_collector.py`; here both sides are whole and real.
"""

import os
import random
import shutil
import threading
import time
from pathlib import Path

from tests.faults.rows import run, source, wrongs
from zebra_assets.adapters.collector import collect, survey
from zebra_assets.adapters.object_store_file import FileStore

OLD = 48 * 3600


def orphan(folder: Path) -> None:
    """Forget the manifests and make the blobs two days old."""
    shutil.rmtree(folder / "manifests", ignore_errors=True)
    for path in (folder / "objects").iterdir():
        if path.name != "blobs":
            shutil.rmtree(path)
    for path in (folder / "objects" / "blobs").rglob("*.parquet"):
        os.utime(path, (time.time() - OLD,) * 2)


def test_thirty_ingests_of_old_orphans_beside_a_busy_collector(tmp_path: Path) -> None:
    spec = source(tmp_path, "shop", 0)
    store = FileStore(tmp_path / "objects")
    run(spec, tmp_path, store)
    chance, taken = random.Random(30), 0
    for number in range(30):
        orphan(tmp_path)
        removed: list[int] = []

        def sweep(pause: float = chance.uniform(0, 0.05), removed: list[int] = removed) -> None:
            time.sleep(pause)
            removed.append(len(collect(survey(FileStore(tmp_path / "objects"), [tmp_path / "manifests"])).orphans))

        collector = threading.Thread(target=sweep)
        collector.start()
        done = run(spec, tmp_path, store)
        collector.join(30)
        assert removed, "the collector came to its end"
        taken += bool(removed[0])
        assert wrongs(store, tmp_path) == [], f"round {number}"
        assert all(store.exists(artifact.key) for artifact in done.manifest.artifacts)
    print(f"in {taken} of 30 rounds the collector was first and the ingest wrote anew")
