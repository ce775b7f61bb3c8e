"""Receipts: this recipe at this revision of the source gave that manifest. With one, unchanged data is not read again.

A receipt is a small blob whose key is the digest of what it is about, so it is written once, says the same whoever
writes it, and serves every machine on the store. It is a claim, not the truth: the manifest it names must stand, with
its blobs. Called by `ingest`.
"""

import json

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.digest import canonical_json, sha256
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.errors import Conflict, NotFound

# What decides the outcome beside recipe and revision: how rows are read, checked and hashed. Counted up when that changes.
READING = 1
_UNREAD = {"description", "owner", "schedule"}


def any_receipts(spec: DatasetSpec, store: ObjectStore) -> bool:
    """Whether the dataset has any: asking a source for its revision may mean hashing it, which the first ingest does while reading."""
    return next(store.list(f"receipts/{spec.name}/"), None) is not None


def find_receipt(spec: DatasetSpec, revision: str, store: ObjectStore) -> str | None:
    """The manifest id that the recipe gave at a revision, or None."""
    try:
        said = json.loads(store.get(_key(spec, revision)))
    except (NotFound, ValueError):
        return None
    return str(said.get("manifest")) if isinstance(said, dict) else None


def leave_receipt(spec: DatasetSpec, revision: str, manifest_id: str, store: ObjectStore) -> None:
    """Write one. A source that gave other rows under the same revision, which must not be, keeps none that is wrong."""
    data = canonical_json({"dataset": spec.name, "manifest": manifest_id})
    try:
        store.put(_key(spec, revision), data)
    except Conflict:
        store.put(_key(spec, revision), data, overwrite=True)


def _key(spec: DatasetSpec, revision: str) -> str:
    about = {"recipe": spec.model_dump(mode="json", exclude=_UNREAD), "revision": revision, "reading": READING}
    # Not RFC 8785: it has no integers beyond 2**53, and a connector's parameters may (the id of an Iceberg snapshot).
    return f"receipts/{spec.name}/{sha256(json.dumps(about, sort_keys=True).encode())}.json"
