"""The project's manifests: JSON files below manifests/, mirrored in the object store. The mirror is the commit point.

A manifest is written last, after every blob it names was found with the right bytes, by one conditional write. A crash
before it leaves blobs that nothing names; a crash after it leaves a mirror from which the local file is restored on the
next read. Two honest writers of the same rows differ in `created_at` and `source` only: the first one stands.
"""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from zebra_assets.adapters import durable
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Bundle, Manifest, content_of, manifest_id
from zebra_assets.contracts.names import MANIFEST_ID, check_manifest_id, check_name, safe_join
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.errors import Conflict, NotFound, Refused, did_you_mean

log = logging.getLogger(__name__)
BUNDLES = "_bundles"  # no dataset can have this name: names start with a letter or digit
N = TypeVar("N", bound=Noun)


class ManifestFolder:
    """Manifests and bundles of one project."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self.folder, self.store = folder, store
        for place in folder.glob("*/"):
            durable.sweep(place)  # what killed writers left; the store sweeps its own

    def commit(self, manifest: Manifest, *, present: Collection[str] = ()) -> bool:
        """See `Manifests.commit`. Also repairs: blobs that were lost are named anew, without making a new manifest."""
        _verify(manifest, manifest.id)
        for artifact in (a for a in manifest.artifacts if a.key not in present):
            if not self.store.exists(artifact.key):
                raise Refused(f"{manifest.id} names {artifact.uri}, which is not there.", fix=f"mlops ingest {manifest.dataset}")
            blob = self.store.fetch(artifact.key)
            if blob.stat().st_size != artifact.bytes or file_digest(blob) != artifact.digest:
                raise Refused(f"{artifact.uri} holds other bytes than {manifest.id} says.", fix="move the blob away, then ingest again")
        there = self._there(manifest)
        if there is None:
            try:
                made = self._made(manifest.dataset, manifest)
                self._write(manifest.dataset, manifest)
                return made
            except Conflict:  # another writer was faster by milliseconds
                there = self._there(manifest)
                if there is None:
                    raise
        self._restore(there, manifest)
        return False

    def get(self, manifest_id: str) -> Manifest:
        """See `Manifests.get`.

        Raises:
            Refused: the file was edited: its id no longer follows from what it says.
            UsageError: not a manifest id.
        """
        dataset = check_manifest_id(manifest_id).rpartition("-")[0]
        found = self._read(dataset, manifest_id, Manifest) if dataset else None
        if found is None:
            known = sorted(self._ids(f"{dataset}/")) if dataset else []
            raise NotFound(
                f"There is no manifest '{manifest_id}'.{did_you_mean(manifest_id, known)}", fix=f"mlops ingest {dataset or '<dataset>'}"
            )
        _verify(found, manifest_id)
        return found

    def commit_bundle(self, bundle: Bundle) -> bool:
        """See `Manifests.commit_bundle`."""
        for named in bundle.roles.values():
            self.get(named)
        made = self._made(BUNDLES, bundle)
        self._write(BUNDLES, bundle)
        return made

    def bundle(self, bundle_id: str) -> Bundle:
        """See `Manifests.bundle`."""
        found = self._read(BUNDLES, check_manifest_id(bundle_id), Bundle)
        if found is None:
            raise NotFound(f"There is no bundle '{bundle_id}'.", fix="mlops ingest the model's datasets; the bundle follows")
        if found.id != bundle_id:
            raise _edited(f"{BUNDLES}/{bundle_id}.json", f"its roles make it {found.id}")
        return found

    def bundles(self, model: str) -> list[Bundle]:
        """See `Manifests.bundles`: a bundle is as old as the newest manifest in it."""
        found = [b for b in map(self.bundle, self._ids(f"{BUNDLES}/{check_name(model, 'model')}-")) if b.model == model]
        return sorted(found, key=lambda b: (max(self.get(m).created_at for m in b.roles.values()), b.id))

    def list(self, dataset: str | None = None) -> list[Manifest]:
        """See `Manifests.list`. Counts what the mirror has too, so a fresh clone sees what its team committed."""
        if dataset is not None:
            check_name(dataset, "dataset")
        names = self._ids(f"{dataset}/" if dataset else "")
        return sorted((self.get(name) for name in names), key=lambda m: (m.created_at, m.id), reverse=True)

    def _restore(self, there: Manifest, fresh: Manifest) -> None:
        """Put back what is missing of a manifest that stands; where its blobs are lost, ``fresh`` names the new ones."""
        named = fresh.blob_keys()
        whole = all(key in named or self.store.exists(key) for key in there.blob_keys())
        stands = there if whole else fresh
        if not whole or not self.store.exists(self._key(there.dataset, there.id)):
            self.store.put(self._key(there.dataset, there.id), _bytes(stands), overwrite=True)
        if not whole or not self._path(there.dataset, there.id).is_file():
            self._write(there.dataset, stands)

    def _there(self, manifest: Manifest) -> Manifest | None:
        """What stands under the manifest's id; the mirror's word counts before the file's."""
        key = self._key(manifest.dataset, manifest.id)
        if self.store.exists(key):
            there: Manifest | None = _parse(Manifest, self.store.get(key), key)
        else:
            there = self._read(manifest.dataset, manifest.id, Manifest)
        if there is not None and there.hashes.content != manifest.hashes.content:
            raise Conflict(
                f"{manifest.id} exists for other rows: {there.hashes.content} there, {manifest.hashes.content} here.",
                fix="rename the dataset; two contents share the first 16 digits",
            )
        return there

    def _ids(self, prefix: str) -> set[str]:
        """Ids below a prefix of ``<folder>/<id>``, in the store and on disk."""
        keys = (key.removeprefix("manifests/") for key in self.store.list(f"manifests/{prefix}"))
        files = (p.relative_to(self.folder).as_posix() for p in self.folder.glob("*/*.json"))
        below = {k for k in (*keys, *files) if k.startswith(prefix) and k.endswith(".json")}
        bundles = prefix.startswith(BUNDLES)
        split = (k.removesuffix(".json").split("/") for k in below)
        return {p[1] for p in split if len(p) == 2 and (p[0] == BUNDLES) == bundles and MANIFEST_ID.fullmatch(p[1])}

    def _key(self, folder: str, name: str) -> str:
        return f"manifests/{folder}/{name}.json"

    def _path(self, folder: str, name: str) -> Path:
        return safe_join(self.folder, folder, f"{name}.json")

    def _made(self, folder: str, noun: Manifest | Bundle) -> bool:
        """Mirror a noun; whether it was this call that did. Two writers of the same millisecond have the same bytes, so the store is asked.

        Where the store cannot tell our own write's second try from another writer, both may say they did: better twice than never.
        """
        key, raw = self._key(folder, noun.id), _bytes(noun)
        made = not self.store.exists(key) and self.store.create(key, raw) is not False
        self.store.put(key, raw)  # compares, and a remote store reads back
        return made

    def _write(self, folder: str, noun: Manifest | Bundle) -> None:
        durable.write(self._path(folder, noun.id), _bytes(noun))

    def _read(self, folder: str, name: str, noun: type[N]) -> N | None:
        """The local file, else the mirror's copy, which then becomes the local file."""
        path, key = self._path(folder, name), self._key(folder, name)
        if path.is_file():
            return _parse(noun, path.read_bytes(), str(path))
        try:
            raw = self.store.get(key)
        except NotFound:
            return None
        found = _parse(noun, raw, key)
        try:
            durable.write(path, raw)
        except OSError as error:  # a read-only project can still read its manifests
            log.warning("%s could not be restored from the object store: %s", path, error)
        return found


def _bytes(noun: Noun) -> bytes:
    return noun.to_json().encode() + b"\n"


def _parse(noun: type[N], raw: bytes, where: str) -> N:
    try:
        return noun.model_validate_json(raw)
    except ValidationError as error:
        raise _edited(where, f"it does not read as a {noun.__name__.lower()} ({error.error_count()} problems)") from error


def _verify(manifest: Manifest, expected: str) -> None:
    """Refuse a manifest whose id or content digest does not follow from its own fields."""
    said = manifest.hashes
    content = content_of(
        manifest.columns,
        manifest.splits,
        rows=manifest.stats.rows,
        blocks=said.blocks,
        block_rows=said.block_rows,
        algorithm=said.algorithm,
    )
    if said.content != content or expected != manifest_id(manifest.dataset, content) or manifest.id != expected:
        raise _edited(f"{expected}.json", f"what it says makes it {manifest_id(manifest.dataset, content)}")


def _edited(where: str, why: str) -> Refused:
    return Refused(
        f"{where} was changed after it was committed: {why}.", fix="delete the file; it is restored from the object store when next read"
    )
