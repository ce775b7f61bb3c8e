"""The jobs that sensors, schedules and people start: ingest a dataset, walk a model's chain, watch a model.

Ingest is an op, not a partition: it is what makes partitions. The same rows give the same manifest id, the partition exists
already, and the loop ends here with "no new data".
"""

from typing import Any

import dagster as dg

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import slug
from zebra_assets.defs.datasets import ingest_kept_the_recipe
from zebra_assets.defs.facts import of_manifest, tags_of
from zebra_assets.defs.partitions import model_axis
from zebra_assets.defs.resources import House
from zebra_assets.errors import DataInvalid, ZebraError

AssetJob = Any  # what `define_asset_job` returns; dagster does not export the name


def ingest_job(spec: DatasetSpec) -> dg.JobDefinition:
    """`<dataset>_ingest`: read the source and commit a manifest, if its rows are new."""
    name = slug(spec.name)

    @dg.op(name=f"{name}_read_source", out=dg.Out(dg.Nothing), description=f"Read the source of {spec.name} into an immutable manifest.")
    def read_source(context: dg.OpExecutionContext, house: House):  # type: ignore[no-untyped-def] # an annotation would say what it yields
        from zebra_assets.loop import ingest_dataset

        cause = context.run.tags.get("zebra/cause", "asked")
        try:
            # The recipe is read anew: a long-lived code server must not ingest by yesterday's recipe.
            done = ingest_dataset(house.parts, house.project.dataset(spec.name), cause=cause)
        except ZebraError as error:
            if isinstance(error, DataInvalid):
                yield ingest_kept_the_recipe(spec, error)
            raise dg.Failure(str(error), allow_retries=False) from error
        yield ingest_kept_the_recipe(spec, done)  # as part of the run: Dagster keeps one evaluation per run and partition
        if done.created:
            said = f"new manifest {done.manifest.id}: {done.manifest.stats.rows:,} rows in {done.seconds:.1f} s"
        elif cause == "drift":
            said = f"drift seen, no new data: the source still gives {done.manifest.id}; nothing to train"
        else:
            said = f"no new data: the source still gives {done.manifest.id}"
        context.log.info(said)
        yield dg.Output(None, metadata={"said": said, "created": dg.MetadataValue.bool(done.created), **of_manifest(done.manifest)})

    @dg.job(
        name=f"{name}_ingest",
        tags=dict(tags_of("dataset", spec.name)),
        description=f"Ingest {spec.name} by manifests/{spec.name}/dataset.yaml.",
    )
    def job() -> None:
        read_source()

    return job


def loop_job(spec: ModelSpec) -> AssetJob:
    """`<model>_loop`: dataset, candidate, predictions, evaluation, decision, promotion of one manifest, in one run."""
    chain = [[name, "dataset"] for name in spec.datasets.names()] if len(spec.datasets.names()) == 1 else []
    chain += [[spec.name, step] for step in ("candidate", "predictions", "evaluation", "decision", "promotion")]
    return dg.define_asset_job(
        name=f"{slug(spec.name)}_loop",
        selection=dg.AssetSelection.assets(*[dg.AssetKey(key) for key in chain]),
        tags=dict(tags_of("model", spec.name)),
        description=f"Train, judge and, if the gate is open, promote {spec.name} on one manifest.",
    )


def monitor_job(spec: ModelSpec) -> AssetJob:
    """`<model>_monitor`: the newest window of predictions against the baseline manifest of the serving version."""
    return dg.define_asset_job(
        name=f"{slug(spec.name)}_monitor",
        selection=dg.AssetSelection.assets(dg.AssetKey([spec.name, "drift"])),
        tags=dict(tags_of("model", spec.name)),
        description=f"Measure drift of {spec.name}; partition key: the manifest the serving version was trained on.",
    )


def axis_of(spec: ModelSpec) -> str:
    """The axis name a model's runs are keyed by."""
    return str(model_axis(spec).name)
