"""`mlops verify`: a manifest holds until the store or the file says otherwise, and the fix it names mends it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import NAME, Mlops


@pytest.fixture
def ingested(mlops: Mlops, fresh: Path) -> tuple[Path, str]:
    """A project with one manifest, and its id."""
    return fresh, mlops("ingest", NAME, "--json", project=fresh).json["manifest"]["id"]


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / ".zebraops" / "objects" / "blobs").rglob("*.parquet"))


def spoil(path: Path) -> None:
    """One bit of a blob flips, as disks do it: unannounced."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_fresh_manifest_holds_down_to_its_rows(mlops: Mlops, ingested: tuple[Path, str]) -> None:
    folder, manifest = ingested
    said = mlops("verify", manifest, project=folder)
    assert said.code == 0 and f"{manifest} holds." in said.out and said.err == ""
    told = mlops("verify", manifest, "--json", project=folder).json
    assert told["ok"] and told["fix"] is None
    assert told["verification"]["content_found"] == told["verification"]["content"]
    assert [b["split"] for b in told["verification"]["blobs"]] == ["train", "valid", "test", "sketches"]


@pytest.mark.parametrize(("harm", "word"), [(spoil, "DIFFERS"), (Path.unlink, "MISSING")])
def test_a_spoilt_or_lost_blob_is_exit_code_10_and_the_fix_mends_it(
    mlops: Mlops, ingested: tuple[Path, str], harm: object, word: str
) -> None:
    folder, manifest = ingested
    for path in blobs(folder)[:2]:
        harm(path)  # type: ignore[operator]
    said = mlops("verify", manifest, project=folder)
    assert said.code == 10 and said.out.count(word) == 2
    assert f"mlops ingest {NAME}" in said.err
    told = mlops("verify", manifest, "--json", project=folder)
    assert told.code == 10 and not told.json["ok"]
    *away, again = told.json["fix"].split(" && ")
    for command in away:
        subprocess.run(command, shell=True, check=True)
    assert mlops(*again.split()[1:], project=folder).code == 0
    assert mlops("verify", manifest, project=folder).code == 0


def test_a_file_that_names_other_whole_blobs_is_found_out_by_the_rows(mlops: Mlops, ingested: tuple[Path, str]) -> None:
    folder, manifest = ingested
    path = folder / "manifests" / NAME / f"{manifest}.json"
    said = json.loads(path.read_text())
    train, valid, _ = said["artifacts"]
    valid |= {name: train[name] for name in ("key", "uri", "digest", "bytes")}
    path.write_text(json.dumps(said))
    assert mlops("verify", manifest, "--bytes-only", project=folder).code == 0
    found = mlops("verify", manifest, project=folder)
    assert found.code == 10 and found.out.count("DIFFERS") == 1
    path.unlink()  # the fix: what the object store remembers
    assert mlops("verify", manifest, project=folder).code == 0


def test_a_file_whose_columns_were_edited_is_refused(mlops: Mlops, ingested: tuple[Path, str]) -> None:
    folder, manifest = ingested
    path = folder / "manifests" / NAME / f"{manifest}.json"
    path.write_text(path.read_text().replace('"positive": "malignant"', '"positive": "benign"'))
    said = mlops("verify", manifest, project=folder)
    assert said.code == 10 and "was changed after it was committed" in said.err


def test_without_a_key_the_bytes_are_verified_and_the_answer_says_so(mlops: Mlops, fresh: Path) -> None:
    recipe = fresh / "manifests" / NAME / "dataset.yaml"
    recipe.write_text("".join(line for line in recipe.read_text().splitlines(keepends=True) if not line.startswith("key:")))
    manifest = mlops("ingest", NAME, "--json", project=fresh).json["manifest"]["id"]
    said = mlops("verify", manifest, project=fresh)
    assert said.code == 0 and "without a key" in said.out
    shutil.rmtree(fresh / ".zebraops" / "objects" / "blobs")
    assert mlops("verify", manifest, project=fresh).code == 10


def test_an_unknown_manifest_is_exit_code_4_with_the_nearest_name(mlops: Mlops, ingested: tuple[Path, str]) -> None:
    folder, manifest = ingested
    said = mlops("verify", manifest[:-1] + ("0" if manifest[-1] != "0" else "1"), project=folder)
    assert said.code == 4 and f"Did you mean '{manifest}'?" in said.err
