"""Finds the blobs that nothing names, and removes those that have been so for longer than a grace period.

What names a blob: any JSON document of the store outside `blobs/` (manifests, the pointers of assets, reports, whatever a
later version writes), and any in the project's own manifests folder, that mentions the blob's digest. To look for 64 hex
digits keeps too much at worst; to know each kind of document would forget the next one. A document that cannot be read
stops the collection. Manifests, reports and predictions themselves are never removed; runs, versions and records name
manifests, which stay. What writers and collectors owe each other is in `adapters/sweeping`. Called by `control/gc`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from zebra_assets.adapters.object_store import in_parallel
from zebra_assets.adapters.sweeping import CLAIMS, FLAG, sweeping
from zebra_assets.contracts.object_store import BLOBS, Entry, Leftover, ObjectStore
from zebra_assets.errors import NotFound

GRACE = timedelta(hours=24)
DIGEST = re.compile(rb"[0-9a-f]{64}")
BLOB = re.compile(rf"{re.escape(BLOBS)}[0-9a-f]{{2}}/([0-9a-f]{{64}})(\.[a-z0-9.]+)?")
NAMING = (CLAIMS, "manifests/", "assets/")  # what an ingest or a run writes; read again under the flag


class Namers:
    """The digests that documents mention; each document is read once, and again when it changed."""

    def __init__(self, store: ObjectStore, folders: Sequence[Path], grace: timedelta) -> None:
        self.store, self.folders, self.grace = store, folders, grace
        self.digests: set[str] = set()
        self._seen: set[Entry] = set()

    def look(self, prefixes: Iterable[str] = ("",), *, now: datetime) -> None:
        """Read what is new below the prefixes. Claims older than the grace period count no more."""
        found = {entry for prefix in prefixes for entry in self.store.entries(prefix) if _document(entry.key)}
        found = {e for e in found if not (e.key.startswith(CLAIMS) and now - e.modified > self.grace)}
        for raw in in_parallel(self._read, sorted(found - self._seen)):
            self._note(raw)
        self._seen |= found

    def look_at_home(self) -> None:
        """Read the project's own files: a store that was moved may lack a mirror that they still have."""
        for folder in self.folders:
            for path in folder.rglob("*.json"):
                self._note(path.read_bytes())

    def _read(self, entry: Entry) -> bytes:
        try:
            return self.store.get(entry.key)
        except NotFound:  # removed since it was listed; only claims and probes are
            return b""

    def _note(self, raw: bytes) -> None:
        self.digests.update(digest.decode() for digest in DIGEST.findall(raw))


@dataclass(frozen=True)
class Survey:
    """What a store holds: blobs that are named, those that may yet be, those that nothing names, and leftovers."""

    namers: Namers
    named: list[Entry] = field(default_factory=list)
    young: list[Entry] = field(default_factory=list)
    orphans: list[Entry] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)


def survey(store: ObjectStore, folders: Sequence[Path] = (), *, grace: timedelta = GRACE) -> Survey:
    """Look at everything and change nothing. Blobs are listed before documents are read: an ingest writes them in that order.

    Args:
        folders: where the project keeps its own manifests.
        grace: how long nothing may have named a blob; ages are by the clock of this machine, until a sweep asks the store's.
    """
    now = datetime.now(UTC)
    blobs = [entry for entry in store.entries(BLOBS) if BLOB.fullmatch(entry.key)]
    namers = Namers(store, folders, grace)
    namers.look(now=now)
    namers.look_at_home()
    found = Survey(namers, leftovers=[left for left in store.leftovers() if now - left.begun > grace])
    for blob in blobs:
        if _digest(blob) in namers.digests:
            found.named.append(blob)
        elif now - blob.modified <= grace:
            found.young.append(blob)
        else:
            found.orphans.append(blob)
    return found


def collect(found: Survey) -> Survey:
    """Remove the orphans and leftovers of a survey, a folder of blobs at a time, each under the flag; what was removed.

    Orphans that were renewed or named since the survey stay.

    Raises:
        Conflict: another sweep is under way.
        Unavailable: the store cannot be reached; what was not removed stays for the next time.
    """
    store, grace = found.namers.store, found.namers.grace
    done = Survey(found.namers)
    for prefix, orphans in groupby(found.orphans, key=lambda blob: blob.key[: len(BLOBS) + 3]):
        done.orphans.extend(_sweep(prefix, {blob.key for blob in orphans}, found.namers))
    for leftover in found.leftovers:
        store.discard(leftover)
        done.leftovers.append(leftover)
    for claim in store.entries(CLAIMS):
        if datetime.now(UTC) - claim.modified > grace + timedelta(hours=1):  # the hour is for clocks that differ
            store.delete(claim.key)
    return done


def _sweep(prefix: str, wanted: set[str], namers: Namers) -> list[Entry]:
    """Remove what is still old and unnamed below ``prefix``, by what the store says while the flag is up."""
    store = namers.store
    with sweeping(store) as sweep:
        old = [blob for blob in store.entries(prefix) if blob.key in wanted and sweep.now - blob.modified > namers.grace]
        namers.look(NAMING, now=sweep.now)

        def remove(blob: Entry) -> bool:
            if not sweep.over:
                store.delete(blob.key)
            return not sweep.over

        doomed = [blob for blob in old if _digest(blob) not in namers.digests]
        return [blob for blob, removed in zip(doomed, in_parallel(remove, doomed), strict=True) if removed]


def _digest(blob: Entry) -> str:
    match = BLOB.fullmatch(blob.key)
    return match.group(1) if match else ""


def _document(key: str) -> bool:
    return key.endswith(".json") and not key.startswith("blobs/") and key != FLAG
