"""One asset per dataset: the manifest of a partition, verified and shown."""

import dagster as dg

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.digest import digest_of, file_digest
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.names import slug
from zebra_assets.contracts.ports import Manifests, ObjectStore
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
        check_specs=[
            dg.AssetCheckSpec("blobs_match_their_digests", asset=key, partitions_def=axis),
            dg.AssetCheckSpec(
                "distributed_as_before",
                asset=key,
                partitions_def=axis,
                description="The train split beside the one of the manifest before, by expectations.distribution.",
            ),
        ],
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
                dg.AssetCheckResult(passed=True, check_name="blobs_match_their_digests", metadata={"blobs": len(manifest.artifacts)}),
                distributed_as_before(manifest, house.parts.manifests, spec),
            ],
        )

    return dataset


def distributed_as_before(manifest: Manifest, manifests: Manifests, spec: DatasetSpec) -> dg.AssetCheckResult:
    """What changed since the manifest before. A recipe's `fail` would have kept the manifest from being; the rest warns."""
    from zebra_assets.datasets.distribution import distribution_checks

    older = (m for m in manifests.list(spec.name) if m.created_at < manifest.created_at)
    before = next(older, None)
    checks = distribution_checks(before.stats, manifest.stats, spec) if before else []
    return dg.AssetCheckResult(
        passed=all(check.passed for check in checks),
        check_name="distributed_as_before",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"before": before.id if before else "none, this is the first", **facts.of_checks(checks)},
    )


def damaged(manifest: Manifest, store: ObjectStore) -> list[str]:
    """What is wrong with a manifest's blobs, re-hashed; an empty list when nothing is."""
    wrong = []
    for artifact in manifest.artifacts:
        if not store.exists(artifact.key):
            wrong.append(f"split {artifact.split} is absent at {artifact.key}")
        elif (found := file_digest(store.fetch(artifact.key))) != artifact.digest:
            wrong.append(f"split {artifact.split} has digest {found[:12]}, not {artifact.digest[:12]}")
    return wrong
