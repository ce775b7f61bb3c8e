"""A model folder that brings code of its own: what it must still be before an approver's word can let it run.

Reads text and names, as `model_folder` does, and is only asked where that one refuses. Nothing here runs or trusts anything: it
says that all the folder would run lies inside it, so that the digest an approver names covers it. Whose word counts is in
`code_approval`; where the code runs is `adapters/own_code`.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from zebra_assets.contracts.model_folder import NOT_COUNTED, ModelFolder, check_bytes, check_kinds, read_mlmodel, refused, said_by
from zebra_assets.errors import Refused

# Where MLflow looks below these keys, it looks by the file's bare name, or not at all: `uri` tells where an artifact came from.
_HARMLESS_KEYS = frozenset({"uri", "model_code_path", "config", "model_config"})


def verify_own_code(folder: Path, digest: str | None) -> ModelFolder:
    """Check a folder's bytes, then read it.

    Raises:
        Refused: other bytes than ``digest`` promises (None promises nothing), and as `read_own_code`.
    """
    check_bytes(folder, digest)
    return read_own_code(folder)


def read_own_code(folder: Path) -> ModelFolder:
    """Check that a folder is an MLflow model that stands by itself, and read its signature.

    Raises:
        Refused: a link, a pipe or a device inside; an MLmodel without the python_function flavour, or with a path that leads out
            of the folder; a signature that is absent or has types we do not know.
    """
    check_kinds(folder)
    document = read_mlmodel(folder)
    flavours = document.get("flavors")
    own = flavours.get("python_function") if isinstance(flavours, dict) else None
    if not isinstance(own, dict) or not isinstance(own.get("loader_module"), str):
        raise refused(folder, "its MLmodel has no python_function flavour with a loader_module")
    for key, value in _texts(flavours):
        if _leads_out(value):
            raise refused(folder, f"its MLmodel says {key}: {value!r}, which leads out of the folder")
    if hidden := next((p for p in folder.rglob(NOT_COUNTED) if p.parent != folder), None):
        raise refused(folder, f"{hidden.relative_to(folder).as_posix()} is not counted by the digest")
    return said_by(folder, document)


def may_be_approved(folder: Path) -> bool:
    """Whether an approver's word could let the folder run; links, paths that lead out and the like nobody can approve."""
    try:
        read_own_code(folder)
    except Refused:
        return False
    return True


def _texts(value: Any, key: str = "flavors") -> Iterator[tuple[str, str]]:
    """Every string below ``value`` that may be a path, with the keys that lead to it."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _HARMLESS_KEYS:
                yield from _texts(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)


def _leads_out(text: str) -> bool:
    return text.startswith(("/", "~", "\\")) or "://" in text or ".." in PurePosixPath(text.replace("\\", "/")).parts
