"""The `gc` verb: what of the object store nothing names, and its removal. How it is safe beside an ingest: `adapters/sweeping`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from zebra_assets.adapters import collector
from zebra_assets.contracts.object_store import Entry, Leftover
from zebra_assets.parts import Parts


@dataclass(frozen=True)
class Pile:
    """So many things of a kind, with their bytes, and what becomes of them."""

    what: str
    count: int
    bytes: int
    fate: str


@dataclass(frozen=True)
class Swept:
    """What a collection found, and removed unless it was only asked to look."""

    store: str
    removed: bool
    piles: list[Pile]
    keys: list[str]


def gc(parts: Parts, *, grace: timedelta = collector.GRACE, remove: bool = False) -> Swept:
    """Look for blobs that nothing has named for longer than ``grace``, and for what killed writers left; remove them if asked.

    Raises:
        Conflict: another sweep is under way.
        Unavailable: the store cannot be reached, or a document in it cannot be read: nothing is removed then.
    """
    found = collector.survey(parts.store, [parts.settings.manifests_dir], grace=grace)
    doomed = collector.collect(found) if remove else found
    fate = "removed" if remove else "would be removed"
    piles = [
        _pile("blobs that something names", found.named, "stay"),
        _pile(f"blobs younger than {_hours(grace)}", found.young, "stay"),
        _pile("blobs that nothing names", doomed.orphans, fate),
        *(
            _pile(f"{what}s", [left for left in doomed.leftovers if left.what == what], fate)
            for what in ("unfinished upload", "temporary file")
        ),
    ]
    return Swept(parts.store.url, remove, piles, [*(blob.key for blob in doomed.orphans), *(left.name for left in doomed.leftovers)])


def _pile(what: str, things: Sequence[Entry | Leftover], fate: str) -> Pile:
    return Pile(what, len(things), sum(thing.bytes for thing in things), fate)


def _hours(grace: timedelta) -> str:
    return f"{grace.total_seconds() / 3600:g} h"
