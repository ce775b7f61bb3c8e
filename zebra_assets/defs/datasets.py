"""One asset per dataset: the manifest of a partition, verified and shown."""

import dagster as dg

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.digest import digest_of, file_digest
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.names import slug
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.defs import facts
from zebra_assets.defs.partitions import dataset_axis
from zebra_assets.defs.resources import House


def dataset_asset(spec: DatasetSpec) -> dg.AssetsDefinition:
    """`<dataset>/dataset`: one immutable manifest per partition. Ingest makes it; this proves that it is all there."""
    key, axis = dg.AssetKey([spec.name, "dataset"]), dataset_axis(spec.name)

    @dg.asset(
        key=key,
        partitions_def=axis,
        group_name=slug(spec.name),
        kinds={"parquet", "manifest"},
        owners=[spec.owner] if spec.owner else None,
        tags=facts.tags_of("dataset", spec.name),
        description=spec.description or f"Manifests of {spec.name}.",
        code_version=digest_of(spec)[:16],
        check_specs=[dg.AssetCheckSpec("blobs_match_their_digests", asset=key, partitions_def=axis)],
    )
    def dataset(context: dg.AssetExecutionContext, house: House):  # type: ignore[no-untyped-def] # an annotation would say Nothing
        manifest = house.parts.manifests.get(context.partition_key)
        wrong = damaged(manifest, house.parts.store)
        if wrong:
            raise dg.Failure(
                f"{manifest.id}: {'; '.join(wrong)}. Ingest again from the source: mlops ingest {spec.name}", allow_retries=False
            )
        return dg.MaterializeResult(
            value=manifest,
            metadata=facts.of_manifest(manifest),
            data_version=dg.DataVersion(manifest.hashes.content),
            check_results=[
                dg.AssetCheckResult(passed=True, check_name="blobs_match_their_digests", metadata={"blobs": len(manifest.artifacts)})
            ],
        )

    return dataset


def damaged(manifest: Manifest, store: ObjectStore) -> list[str]:
    """What is wrong with a manifest's blobs, re-hashed; an empty list when nothing is."""
    wrong = []
    for artifact in manifest.artifacts:
        if not store.exists(artifact.key):
            wrong.append(f"split {artifact.split} is absent at {artifact.key}")
        elif (found := file_digest(store.fetch(artifact.key))) != artifact.digest:
            wrong.append(f"split {artifact.split} has digest {found[:12]}, not {artifact.digest[:12]}")
    return wrong
