"""One asset per dataset: the manifest of a partition, verified and shown."""

from typing import TYPE_CHECKING

import dagster as dg

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.digest import digest_of, file_digest
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.names import slug
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.defs import facts
from zebra_assets.defs.partitions import dataset_axis
from zebra_assets.defs.resources import House
from zebra_assets.errors import DataInvalid

if TYPE_CHECKING:
    from zebra_assets.datasets.ingest import Ingested


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
                "rows_keep_the_recipe",
                asset=key,
                partitions_def=axis,
                description="Every rule of the recipe as it reads today; each ingest reports here too, also when it refuses the rows.",
            ),
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
                rows_keep_the_recipe(manifest, house.parts.store, spec),
                distributed_as_before(manifest, house.parts.manifests, spec),
            ],
        )

    return dataset


def rows_keep_the_recipe(manifest: Manifest, store: ObjectStore, spec: DatasetSpec) -> dg.AssetCheckResult:
    """Every rule on the manifest's rows. One that does not hold was added since they were ingested: a warning."""
    from zebra_assets.datasets.recheck import recheck

    checks = recheck(manifest, store, spec)
    return dg.AssetCheckResult(
        passed=all(check.passed for check in checks),
        check_name="rows_keep_the_recipe",
        severity=dg.AssetCheckSeverity.WARN,
        metadata=facts.of_rules(checks),
    )


def ingest_kept_the_recipe(spec: DatasetSpec, outcome: "Ingested | DataInvalid") -> dg.AssetCheckEvaluation:
    """How an ingest went, as the same check. Refused rows never become a partition: their evaluation belongs to none."""
    metadata: facts.Facts
    if isinstance(outcome, DataInvalid):
        passed, partition, metadata = False, None, {"refused": outcome.message}
    else:  # a source that did not change was not read again; its rows were asked when they came
        passed, partition = True, outcome.manifest.id
        metadata = facts.of_rules(outcome.checks) if outcome.read else {"source": "unchanged since these rows were read"}
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([spec.name, "dataset"]),
        check_name="rows_keep_the_recipe",
        passed=passed,
        partition=partition,
        metadata=metadata,
    )


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
