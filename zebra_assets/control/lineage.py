"""What can be asked about data that rests: what is it, does it hold, and what changed. Changes nothing; `queries` holds the lists."""

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.provenance import ManifestDiff, Verification
from zebra_assets.control import queries
from zebra_assets.errors import ZebraError
from zebra_assets.loop import provenance
from zebra_assets.parts import Parts

INGESTS = 5  # that are told: the first, which made the manifest, and the latest


@dataclass(frozen=True)
class Verified:
    """A verification, and what mends it; ``fix`` is None when nothing is wrong."""

    verification: Verification
    fix: str | None


@dataclass(frozen=True)
class Asked:
    """One ingest that came to a manifest, as the audit log tells it."""

    by: str
    at: datetime
    facts: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """A manifest, its first ingest and the latest (`unlisted` more came in between), and the columns whose values are masked."""

    manifest: Manifest
    ingests: list[Asked]
    unlisted: int
    sensitive: frozenset[str]


def told(parts: Parts, manifest_id: str) -> Told:
    """What is known of a manifest.

    Raises:
        NotFound: no such manifest.
        Refused: the manifest file itself was edited.
    """
    manifest = queries.manifest(parts, manifest_id)
    said = [entry.said() for entry in parts.audit.entries(subject=manifest.id, action="dataset.ingested")]
    shown = said if len(said) <= INGESTS else [said[0], *said[1 - INGESTS :]]
    ingests = [Asked(one["actor"], datetime.fromisoformat(one["ts"]), one["facts"]) for one in shown]
    return Told(manifest, ingests, len(said) - len(shown), frozenset(_sensitive(parts, manifest)))


def verify(parts: Parts, manifest_id: str, *, rows: bool = True) -> Verified:
    """Re-hash what a manifest names.

    Raises:
        NotFound: no such manifest.
        Refused: the manifest file itself was edited.
    """
    manifest = queries.manifest(parts, manifest_id)
    found = provenance.verify_manifest(parts, manifest, rows=rows)
    return Verified(found, None if found.ok else _fix(parts, manifest, found))


def diff(parts: Parts, before_id: str, after_id: str) -> ManifestDiff:
    """What changed from one manifest to another. Values of sensitive columns are masked; of all, where the recipe cannot be read.

    Raises:
        NotFound: no such manifest, or a blob of it is gone.
    """
    before, after = queries.manifest(parts, before_id), queries.manifest(parts, after_id)
    hidden = frozenset(name for one in (before, after) for name in _sensitive(parts, one))
    return provenance.diff_manifests(parts, before, after, sensitive=hidden)


def _sensitive(parts: Parts, manifest: Manifest) -> list[str]:
    try:
        return queries.dataset_spec(parts, manifest.dataset).sensitive
    except ZebraError:
        return [c.name for c in manifest.columns.columns]


def _fix(parts: Parts, manifest: Manifest, found: Verification) -> str:
    """Wrong bytes are never overwritten by an ingest: they are moved out of its way first."""
    if all(b.ok for b in found.blobs):  # whole blobs, but other rows than the id names: the file names the wrong ones
        edited = parts.settings.manifests_dir / manifest.dataset / f"{manifest.id}.json"
        return f"rm {shlex.quote(str(edited))} && mlops verify {manifest.id}   # restored from the object store"
    away = [_remove(parts.store.uri(b.key)) for b in found.blobs if not b.ok and b.found]
    return " && ".join([*away, f"mlops ingest {manifest.dataset}"])


def _remove(uri: str) -> str:
    if uri.startswith("file://"):
        return f"rm -f {shlex.quote(unquote(urlsplit(uri).path))}"
    return f"aws s3 rm {shlex.quote(uri)}"
