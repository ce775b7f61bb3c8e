"""Where rows came from in other systems' words: DVC and lakeFS pointers, and the commit of the recipe."""

import hashlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zebra_assets.contracts.dataset_spec import SourceSpec
from zebra_assets.datasets.pointer import origin, pointers

ROWS = b"id,x\na,1\r\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMMIT = "c0ffee" + "0" * 58


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A git and DVC repository as `git init`, `dvc init` and `dvc add data/rows.csv` leave it, committed."""
    folder = tmp_path / "repo"
    for part in (".dvc", "data", "manifests/people"):
        (folder / part).mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("")
    (folder / "data" / "rows.csv").write_bytes(ROWS)
    (folder / "data" / ".gitignore").write_text("/rows.csv\n")
    add(folder / "data" / "rows.csv", hashlib.md5(ROWS).hexdigest(), "hash: md5\n  ")
    (folder / "manifests" / "people" / "dataset.yaml").write_text("name: people\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "rows")
    return folder


def add(data: Path, md5: str, kind: str = "", size: int | None = None) -> None:
    """What `dvc add` writes beside the data."""
    size = data.stat().st_size if size is None else size
    data.with_name(f"{data.name}.dvc").write_text(f"outs:\n- md5: {md5}\n  size: {size}\n  {kind}path: {data.name}\n")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def files(path: str) -> SourceSpec:
    return SourceSpec(connector="files", path=path)


@pytest.mark.parametrize("path", ["data/rows.csv", "data/*.csv", "{repo}/data/rows.csv"])
def test_a_file_that_dvc_tracks_is_named_as_dvc_names_it(repo: Path, path: str) -> None:
    (found,) = pointers(files(path.format(repo=repo)), project=repo)
    assert (found.system, found.path, found.version) == ("dvc", "data/rows.csv", hashlib.md5(ROWS).hexdigest())
    assert found.holds is True and found.commit == git(repo, "rev-parse", "HEAD")


def test_a_file_edited_since_dvc_add_is_not_what_the_pointer_names(repo: Path) -> None:
    (repo / "data" / "rows.csv").write_bytes(ROWS.replace(b"1", b"2"))
    assert [p.holds for p in pointers(files("data/rows.csv"), project=repo)] == [False]
    (repo / "data" / "rows.csv").write_bytes(ROWS * 2)
    assert [p.holds for p in pointers(files("data/rows.csv"), project=repo)] == [False]


def test_a_pointer_that_is_not_committed_names_no_commit(repo: Path) -> None:
    (repo / "data" / "rows.csv").write_bytes(ROWS * 2)
    add(repo / "data" / "rows.csv", hashlib.md5(ROWS * 2).hexdigest(), "hash: md5\n  ")
    (found,) = pointers(files("data/rows.csv"), project=repo)
    assert (found.holds, found.commit) == (True, None)


def test_digests_that_cannot_be_held_against_the_bytes_are_not_said_to_hold(repo: Path) -> None:
    """DVC 2 hashed text with its line ends changed; a folder's digest is that of a listing."""
    add(repo / "data" / "rows.csv", "0" * 32)
    (repo / "raw").mkdir()
    (repo / "raw" / "a.csv").write_bytes(ROWS)
    (repo / "raw" / "b.csv").write_bytes(ROWS)
    add(repo / "raw", "1" * 32 + ".dir", "nfiles: 2\n  ", size=2 * len(ROWS))
    assert [p.holds for p in pointers(files("data/rows.csv"), project=repo)] == [None]
    found = pointers(files("raw/*.csv"), project=repo)
    assert [(p.path, p.version, p.holds) for p in found] == [("raw", "1" * 32 + ".dir", None)]


@pytest.mark.parametrize(
    "text", ["", "outs", "outs: []", "outs: [{md5: x}]", "outs: [{path: other.csv, md5: x}]", "a: &a [*a]", "\x00", "outs: [1]"]
)
def test_a_broken_pointer_is_none(repo: Path, text: str) -> None:
    (repo / "data" / "rows.csv.dvc").write_text(text)
    assert pointers(files("data/rows.csv"), project=repo) == []


@pytest.mark.parametrize(
    "path", ["data/none.csv", "../repo/data/rows.csv", "/", "s3://bucket/data/rows.csv", "data/\x00", "**", "https://x/y/z.csv"]
)
def test_what_nobody_tracks_has_no_pointer(repo: Path, path: str) -> None:
    (repo / "data" / "rows.csv.dvc").unlink()
    assert pointers(files(path), project=repo) == []
    assert pointers(SourceSpec(connector="sql", url="sqlite:///x.db", query="SELECT 1"), project=repo) == []


def test_without_git_there_is_a_pointer_and_no_commit(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(ROWS)
    add(tmp_path / "rows.csv", hashlib.md5(ROWS).hexdigest(), "hash: md5\n  ")
    (found,) = pointers(files("rows.csv"), project=tmp_path)
    assert (found.holds, found.commit) == (True, None)
    assert origin(tmp_path, actor="ada", at=NOW).model_dump() == {"actor": "ada", "at": NOW, "commit": None, "dirty": None}


@pytest.mark.parametrize(
    ("path", "secrets", "wanted"),
    [
        (f"lakefs://shop/{COMMIT}/people/*.csv", {}, ("shop", COMMIT, True)),
        ("lakefs://shop/main/people.csv", {}, ("shop", "main", None)),
        ("s3://shop/main/people.csv", {"ZEBRA_S3_ENDPOINT_URL": "https://s3.lakefs.example.com"}, ("shop", "main", None)),
        ("s3://shop/main/people.csv", {"ZEBRA_S3_ENDPOINT_URL": "http://10.0.0.1:8000", "LAKECTL_SERVER_ENDPOINT_URL": "http://10.0.0.1:8000/api/v1"}, ("shop", "main", None)),
        ("s3://shop/main/people.csv", {"ZEBRA_S3_ENDPOINT_URL": "http://10.0.0.1:9000", "LAKECTL_SERVER_ENDPOINT_URL": "http://10.0.0.1:8000"}, None),
        ("s3://shop/main/people.csv", {}, None),
        ("s3://shop/people.csv", {"ZEBRA_S3_ENDPOINT_URL": "https://lakefs.example.com"}, None),
    ],
)  # fmt: skip
def test_a_path_in_lakefs_names_repository_and_reference(
    repo: Path, path: str, secrets: dict[str, str], wanted: tuple[str, str, bool] | None
) -> None:
    found = pointers(files(path), project=repo, secrets=secrets)
    assert [(p.repository, p.version, p.holds) for p in found] == ([wanted] if wanted else [])


def test_the_origin_tells_who_and_the_commit_of_the_recipe(repo: Path) -> None:
    recipe = repo / "manifests" / "people"
    head = git(repo, "rev-parse", "HEAD")
    (repo / "elsewhere.txt").write_text("x")
    assert origin(recipe, actor="ada", at=NOW).model_dump() == {"actor": "ada", "at": NOW, "commit": head, "dirty": False}
    (recipe / "dataset.yaml").write_text("name: people\nowner: a@b.c\n")
    assert origin(recipe, actor="ada", at=NOW).dirty is True
