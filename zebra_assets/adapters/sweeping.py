"""How a writer may reuse a blob while a collector removes others, without a lock and without losing one.

The collector (`adapters/collector`) removes a blob that no document names and that is older than a grace period (24 h).
A new blob is young, so only a *reused* old one is in danger: an ingest finds it, the collector removes it, and the
manifest that comes next names nothing. Both sides therefore write before they read:

    writer     1 renew the blob: its age is 0 again (a file's mtime; elsewhere a claim, a small object that names it)
               2 wait until no sweep is under way
               3 look for the blob: if it is gone, write it anew
    collector  1 raise the flag `gc/sweeping.json`, by a conditional write: one sweep at a time
               2 read ages and claims, and the documents that were written since it last looked
               3 remove what is old, unclaimed and unnamed; lower the flag

If the collector's reading (2) came after the renewal, the blob is young to it and stays. If it came before, the flag was
up before the writer looked for it, so the writer waits, and then sees what is left. It holds for any interleaving and any
pause of either side, on a store where a read sees every finished write: a local disk, S3, Google and Azure all do.

What it rests on: an ingest names a blob within the grace period of putting it (`ManifestFolder.commit` may renew again);
a sweep lowers its flag within `HOLD_S`, after which it removes nothing more; a flag older than `DEAD_S` was left by a
collector that was killed, and the next one takes it down.
"""

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from zebra_assets.contracts.object_store import ObjectStore
from zebra_assets.errors import Conflict, NotFound, Unavailable

FLAG, CLAIMS = "gc/sweeping.json", "gc/claims/"
WAIT_S, HOLD_S, DEAD_S = 60.0, 300.0, 900.0


def claim(store: ObjectStore, keys: Iterable[str]) -> None:
    """Step 1 of a writer whose store cannot make a blob young: a document that names it, as good as a manifest for a grace period.

    A copy of the object onto itself would do too, but costs a request per blob and, with versioning, its bytes once more.
    """
    store.put(f"{CLAIMS}{secrets.token_hex(12)}.json", json.dumps({"claimed": sorted(keys)}).encode(), overwrite=True)


def wait_for_sweep(store: ObjectStore, seconds: float = WAIT_S) -> None:
    """Step 2 of a writer.

    Raises:
        Unavailable: the flag stays up; its collector is stuck, or was killed.
    """
    deadline, pause = time.monotonic() + seconds, 0.02
    while store.exists(FLAG):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"A collector has held {store.uri(FLAG)} for more than {seconds:.0f} s, so old blobs cannot be reused.",
                fix="mlops gc --yes   # takes over from a collector that was killed more than 15 minutes ago",
            )
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)


class Sweep:
    """A sweep under way: the store's time when it began, and whether it may still remove something."""

    def __init__(self, now: datetime) -> None:
        self.now, self._until = now, time.monotonic() + HOLD_S

    @property
    def over(self) -> bool:
        """Whether the flag has been up so long that another collector may soon take it down."""
        return time.monotonic() > self._until


@contextmanager
def sweeping(store: ObjectStore) -> Iterator[Sweep]:
    """The collector's flag, up while the block runs.

    Raises:
        Conflict: another sweep is under way.
    """
    token = json.dumps({"sweep": secrets.token_hex(12)}).encode()
    if not _raised(store, token):
        _take_over(store)
        if not _raised(store, token):
            raise _busy(store)
    try:
        yield Sweep(_flag_time(store) or _gone(store))
    finally:
        store.delete(FLAG)


def _raised(store: ObjectStore, token: bytes) -> bool:
    """Raise the flag; a refusal after a lost reply may be about our own write, so the flag is read."""
    if store.create(FLAG, token):
        return True
    try:
        return store.get(FLAG) == token
    except NotFound:
        return False


def _take_over(store: ObjectStore) -> None:
    """Lower a dead collector's flag. The store's own clock says how old it is: a fresh object beside it tells the time."""
    key = f"{CLAIMS}{secrets.token_hex(12)}.json"
    store.put(key, b"{}", overwrite=True)
    try:
        now, raised = next(store.entries(key)).modified, _flag_time(store)
        if raised is not None and now - raised < timedelta(seconds=DEAD_S):
            raise _busy(store)
        store.delete(FLAG)
    finally:
        store.delete(key)


def _flag_time(store: ObjectStore) -> datetime | None:
    return next((entry.modified for entry in store.entries(FLAG) if entry.key == FLAG), None)


def _gone(store: ObjectStore) -> datetime:
    raise Unavailable(f"{store.uri(FLAG)} was written but is not listed.", fix="mlops doctor   # probes what the store guarantees")


def _busy(store: ObjectStore) -> Conflict:
    return Conflict(
        f"Another sweep of {store.url} is under way.", fix="wait for it; one that was killed is taken over 15 minutes after it began"
    )
