"""Find what DVC or lakeFS call the rows of a source, and which commit of the recipe read them.

Only looks: at `.dvc` files beside the data, at the words of a URL, at git. Nothing here fails an ingest: where there is
nothing to find, or it cannot be read, there is no pointer. Asks no server; a lakeFS branch stays a branch. Called by `ingest`.
"""

import hashlib
import logging
import re
import subprocess
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zebra_assets
from zebra_assets.contracts.dataset_spec import SourceSpec
from zebra_assets.contracts.pointer import Origin, Pointer
from zebra_assets.contracts.yaml_source import load
from zebra_assets.errors import ZebraError

log = logging.getLogger(__name__)
MOST_FILES = 1000
_GIT_TIMEOUT_S = 10
_COMMIT = re.compile(r"[0-9a-f]{64}")  # of lakeFS
_URL = re.compile(r"^(lakefs|s3|s3a)://([^/]+)/([^/]+)/(.*)$")


def pointers(source: SourceSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> list[Pointer]:
    """What other systems call what ``source`` reads; empty where none does.

    Args:
        secrets: as for connectors; `ZEBRA_S3_ENDPOINT_URL` and lakeFS's own `LAKECTL_SERVER_ENDPOINT_URL` tell whether an
            s3:// path goes through a lakeFS gateway.
    """
    if not source.path or "\x00" in source.path:
        return []
    if "://" in source.path:
        return _lakefs(source.path, secrets)
    tracked = dict.fromkeys(_tracked(path) for path in islice(_matching(source.path, project), MOST_FILES))
    return [pointer for data in tracked if data is not None and (pointer := _dvc(data, project)) is not None]


def origin(recipe: Path, *, actor: str, at: datetime) -> Origin:
    """Who, when, and the commit around the folder of a recipe; the commit also speaks for this package where both share a repository."""
    package = Path(zebra_assets.__file__).parent
    shared = [package] if package.parent in recipe.resolve().parents else []
    commit, changed = _git(recipe, [recipe / "dataset.yaml", *shared])
    return Origin(actor=actor, at=at, commit=commit, dirty=changed)


def _matching(path: str, project: Path) -> list[Path]:
    given = Path(path)
    if ".." in given.parts:
        return []
    root, pattern = (Path(given.anchor), str(given.relative_to(given.anchor))) if given.is_absolute() else (project, path)
    try:
        return sorted(root.glob(pattern))
    except (OSError, ValueError, IndexError, RuntimeError):  # no pattern at all: the connector says so better
        return []


def _tracked(path: Path) -> Path | None:
    """What has a .dvc file beside it: the file itself or a folder around it, up to the root of the repository."""
    for place in (path, *path.parents):
        if place.name and _beside(place).is_file():
            return place
        if (place / ".dvc").is_dir() or (place / ".git").exists():
            return None
    return None


def _beside(data: Path) -> Path:
    return data.with_name(f"{data.name}.dvc")


def _dvc(data: Path, project: Path) -> Pointer | None:
    """What the .dvc file says of ``data``, held against the bytes: after an edit without `dvc add` it names other rows."""
    file = _beside(data)
    try:
        said, _ = load(file)
        out: dict[str, Any] = next(out for out in said["outs"] if out["path"] == data.name)
        version = str(out["md5"])
    except (ZebraError, OSError, KeyError, TypeError, StopIteration) as error:
        log.warning("%s is no .dvc file that can be read: %s", file, error)
        return None
    commit, changed = _git(file.parent, [file])
    return Pointer(
        system="dvc",
        path=str(data.relative_to(project)) if data.is_relative_to(project) else str(data),
        version=version,
        holds=_holds(data, out),
        commit=None if changed else commit,
    )


def _holds(data: Path, out: Mapping[str, Any]) -> bool | None:
    """Whether the bytes are those the .dvc file records.

    None for folders, whose digest is one of a listing, and for files of DVC 2, whose digest of text ignores line ends.
    """
    if not data.is_file() or str(out["md5"]).endswith(".dir"):
        return None
    if "size" in out and data.stat().st_size != out["size"]:
        return False
    if out.get("hash") != "md5":
        return None
    with data.open("rb") as content:  # 0.6 GB/s, paid only by who uses DVC
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    return found.hexdigest() == out["md5"]


def _lakefs(url: str, secrets: Mapping[str, str]) -> list[Pointer]:
    """Repository and reference of lakefs://repo/ref/path, and of s3://repo/ref/path through lakeFS's S3 gateway."""
    match = _URL.match(url)
    if match is None or (match[1] != "lakefs" and not _gateway(secrets)):
        return []
    holds = True if _COMMIT.fullmatch(match[3]) else None  # a branch or tag may move
    return [Pointer(system="lakefs", path=url, version=match[3], holds=holds, repository=match[2])]


def _gateway(secrets: Mapping[str, str]) -> bool:
    """Whether the S3 endpoint is lakeFS: the server that lakeFS's own settings name, or a host called lakefs."""
    endpoint = urlsplit(secrets.get("ZEBRA_S3_ENDPOINT_URL") or "").netloc
    return bool(endpoint) and (
        endpoint == urlsplit(secrets.get("LAKECTL_SERVER_ENDPOINT_URL") or "").netloc or "lakefs" in endpoint.partition(":")[0].split(".")
    )


def _git(folder: Path, paths: list[Path]) -> tuple[str | None, bool | None]:
    """(commit, whether any of ``paths`` differs from it); (None, None) without git, a repository or a commit."""
    ask = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--ignored=matching", "--"]
    try:
        done = subprocess.run([*ask, *map(str, paths)], cwd=folder, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None, None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    if commit is None or commit == "(initial)":
        return None, None
    return commit, any(not line.startswith("#") for line in lines)
