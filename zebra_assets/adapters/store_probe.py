"""Asks a store whether it keeps the promises that ingests rest on, by a handful of small writes. Called by `mlops doctor`.

Only what a store answers counts: several S3 servers take a conditional write and ignore the condition.
"""

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from zebra_assets.contracts.object_store import ObjectStore
from zebra_assets.errors import NotFound

FOLDER = "doctor/"
WRITERS = 8


class Promise(NamedTuple):
    """What a store should keep, whether it does, and what is at stake. Without a ``vital`` one no ingest is safe."""

    name: str
    kept: bool
    vital: bool
    lost: str


def probe(store: ObjectStore) -> Iterator[Promise]:
    """Each promise in turn; the objects written for it are removed again."""
    key = f"{FOLDER}probe-{secrets.token_hex(6)}"
    keys = [key, f"{key}-race", f"{key}-parts"]
    try:
        yield from _writes(store, *keys)
    finally:
        for one in keys:
            with contextlib.suppress(Exception):  # what stopped the probe is the news, not what it left behind
                store.delete(one)


def _writes(store: ObjectStore, key: str, race: str, parts: str) -> Iterator[Promise]:
    store.put(key, b"zebra")
    yield Promise("read after write", store.get(key) == b"zebra", True, "a manifest could name a blob that its reader does not find")
    yield Promise(
        "list after write",
        key in store.list(FOLDER),
        True,
        "a manifest just committed would be missing from lists, and its blobs be collected",
    )
    refused = not store.create(key, b"other") and store.get(key) == b"zebra"
    yield Promise(
        "If-None-Match", refused, True, "two writers of one id would overwrite each other silently, and both be told it went well"
    )
    with ThreadPoolExecutor(WRITERS) as pool:
        won = sum(pool.map(lambda i: bool(store.create(race, f"writer {i}".encode())), range(WRITERS)))
    if refused:
        lost = "of two writers at the same moment both may believe to be first, and the later one's bytes stand"
        yield Promise(f"one of {WRITERS} writers wins", won == 1 and store.conditional, False, lost)
    if hasattr(store, "create_in_parts"):
        yield Promise(
            "If-None-Match on uploads in parts",
            _minds_parts(store, parts),
            False,
            "a large blob sent twice is stored twice; its bytes are the same",
        )
    store.delete(key)
    yield Promise("delete", _gone(store, key), False, "mlops gc would free no space")


def _minds_parts(store: ObjectStore, key: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        path.write_bytes(b"zebra")
        send = store.create_in_parts  # type: ignore[attr-defined]  # S3 only
        return bool(send(key, path) and not send(key, path))


def _gone(store: ObjectStore, key: str) -> bool:
    try:
        store.get(key)
    except NotFound:
        return key not in store.list(FOLDER)
    return False
