"""From values to ids: canonical JSON (RFC 8785) and sha256.

One place decides what "the same" means for everything that is not rows of a table; `datasets/blocks` does it for rows.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rfc8785
from pydantic import BaseModel


def canonical_json(value: Any) -> bytes:
    """Serialise to RFC 8785 bytes: sorted keys, shortest floats, no NaN, no integers beyond 2**53.

    Raises:
        rfc8785.CanonicalizationError: a value has no canonical form (NaN, infinity, huge integer).
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    return rfc8785.dumps(value)


def digest_of(value: Any) -> str:
    """The 64 hex digits of sha256 over the canonical JSON of ``value``."""
    return sha256(canonical_json(value))


def sha256(data: bytes | memoryview) -> str:
    """The 64 hex digits of sha256 over ``data``."""
    return hashlib.sha256(data).hexdigest()


def stream_digest(pieces: Iterable[bytes | memoryview]) -> str:
    """The 64 hex digits of sha256 over the pieces, one after another."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The 64 hex digits of sha256 over a file's bytes, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(root: Path, files: Iterable[Path] | None = None) -> str:
    """Digest of a folder: sha256 over its sorted ``[relative path, file digest]`` pairs.

    Args:
        root: the folder.
        files: the files to count, default every regular file below ``root``. A symlink counts by its target's bytes
            only if the caller lists it; by default symlinks are left to the caller to refuse.
    """
    chosen = sorted(files if files is not None else (p for p in root.rglob("*") if p.is_file()))
    return digest_of([[p.relative_to(root).as_posix(), file_digest(p)] for p in chosen])
