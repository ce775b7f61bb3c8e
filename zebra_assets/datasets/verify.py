"""Whether a committed manifest still says the truth: every blob's bytes, and the content digest from the rows themselves.

A blob's digest alone proves that the bytes are those the manifest file names; only the rows prove that these are the rows
the id names, because `artifacts` stay out of the content digest. Changes nothing. Called by `loop`.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.manifest import Artifact, Manifest, content_of
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.contracts.provenance import BlobCheck, Verification
from zebra_assets.datasets.blocks import block_digest, block_digests
from zebra_assets.datasets.table import arrange


def verify(manifest: Manifest, store: ObjectStore, *, rows: bool = True) -> Verification:
    """Re-hash what the store holds for a manifest.

    Args:
        rows: also decode the rows, put them in canonical order and compute `hashes.content` anew, block by block. Without a
            key the order across splits is not kept, so then only the blobs are compared.

    Raises:
        Unavailable: the store cannot be read; nothing is known.
    """
    blobs = [BlobCheck(split=a.split, key=a.key, uri=a.uri, digest=a.digest, found=store.digest(a.key)) for a in manifest.artifacts]
    if (sketches := manifest.stats.sketches) is not None:
        there = store.digest(sketches.key)
        blobs.append(BlobCheck(split="sketches", key=sketches.key, uri=store.uri(sketches.key), digest=sketches.digest, found=there))
    found, reason = None, ""
    if not all(b.ok for b in blobs):
        reason = "not computed: a blob differs"
    elif not rows:
        reason = "not computed: only bytes were asked for"
    elif not manifest.columns.key:
        reason = "not computed: without a key the order of rows is known to the source only"
    else:
        found = _content(manifest, store)
    ok = all(b.ok for b in blobs) and found in (None, manifest.hashes.content)
    return Verification(manifest_id=manifest.id, content=manifest.hashes.content, content_found=found, reason=reason, blobs=blobs, ok=ok)


def _content(manifest: Manifest, store: ObjectStore) -> str:
    """`hashes.content` of the rows in the blobs, whatever the manifest says of them."""
    size, algorithm = manifest.hashes.block_rows, manifest.hashes.algorithm
    if all(a.block is not None for a in manifest.artifacts):
        digests, rows = _by_block(manifest, store)
    else:  # committed when a split was one blob: its rows are spread over all blocks
        table = _ordered(manifest.artifacts, manifest, store)
        digests, rows = block_digests(table, block_rows=size, algorithm=algorithm), table.num_rows
    return content_of(manifest.columns, manifest.splits, rows=rows, blocks=digests, block_rows=size, algorithm=algorithm)


def _by_block(manifest: Manifest, store: ObjectStore) -> tuple[list[str], int]:
    """Each block's digest from its own blobs, a few blocks at a time."""

    def one(number: int) -> tuple[str, int]:
        table = _ordered([a for a in manifest.artifacts if a.block == number], manifest, store)
        return block_digest(table, manifest.hashes.algorithm), table.num_rows

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(one, sorted({a.block for a in manifest.artifacts if a.block is not None})))
    return [digest for digest, _ in found], sum(rows for _, rows in found)


def _ordered(artifacts: list[Artifact], manifest: Manifest, store: ObjectStore) -> pa.Table:
    names = [c.name for c in manifest.columns.columns]
    table = pa.concat_tables(pq.read_table(store.fetch(a.key), columns=names) for a in artifacts)
    return arrange(table, manifest.columns.key)[0]
