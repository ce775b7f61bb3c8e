"""What rests, looked at again: a manifest against the store. Changes nothing; the stations it calls are named in each step."""

from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.provenance import Verification
from zebra_assets.parts import Parts


def verify_manifest(parts: Parts, manifest: Manifest, *, rows: bool = True) -> Verification:
    """Re-hash every blob of a manifest and, unless told otherwise, its rows. Raises what `datasets.verify` raises."""
    from zebra_assets.datasets.verify import verify

    return verify(manifest, parts.store, rows=rows)
