"""`mlops gc` says what it would do, and does it only when told to."""

import os
import time
from pathlib import Path

from tests.cli.conftest import Mlops, tree

OLD = (time.time() - 48 * 3600,) * 2


def age(folder: Path) -> None:
    """Make every blob two days old."""
    for path in folder.rglob("blobs/sha256/*/*"):
        os.utime(path, OLD)


def orphan(project: Path) -> Path:
    """A blob that nothing names."""
    path = project / ".zebraops" / "objects" / "blobs" / "sha256" / "ab" / f"{'ab' * 32}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    os.utime(path, OLD)
    return path


def piles(said: object) -> dict[str, tuple[int, int, str]]:
    return {p["what"]: (p["count"], p["bytes"], p["fate"]) for p in said.json["piles"]}  # type: ignore[attr-defined]


def test_gc_changes_nothing_until_it_is_told_to(mlops: Mlops, fresh: Path) -> None:
    path = orphan(fresh)
    before = tree(fresh)
    said = mlops("gc", project=fresh)
    assert (said.code, tree(fresh)) == (0, before)
    assert "mlops gc --yes" in said.out
    assert piles(mlops("gc", "--json", project=fresh))["blobs that nothing names"] == (1, 5, "would be removed")
    assert piles(mlops("gc", "--json", "--grace", "72", project=fresh))["blobs younger than 72 h"] == (1, 5, "stay")
    done = mlops("gc", "--yes", "--json", project=fresh)
    assert piles(done)["blobs that nothing names"] == (1, 5, "removed")
    assert not path.exists()
    assert "holds nothing in vain" in mlops("gc", "--yes", project=fresh).out


def test_gc_leaves_a_walked_project_as_it_is(mlops: Mlops, walked: Path) -> None:
    age(walked)
    blobs = sorted((walked / ".zebraops" / "objects" / "blobs").rglob("*.*"))
    path = orphan(walked)
    assert piles(mlops("gc", "--yes", "--json", project=walked))["blobs that something names"][0] == len(blobs)
    assert sorted((walked / ".zebraops" / "objects" / "blobs").rglob("*.*")) == blobs
    assert blobs
    assert not path.exists()


def test_a_grace_period_shorter_than_an_hour_is_refused(mlops: Mlops, fresh: Path) -> None:
    assert mlops("gc", "--grace", "0", project=fresh).code == 2
