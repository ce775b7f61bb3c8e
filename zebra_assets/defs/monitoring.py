"""One drift asset per model: the newest window of predictions against the manifest its serving version learnt from."""

import dagster as dg

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import slug
from zebra_assets.defs import facts
from zebra_assets.defs.partitions import model_axis
from zebra_assets.defs.resources import House
from zebra_assets.errors import ZebraError


def drift_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """`<model>/drift`, partitioned by the baseline manifest: its event log is the history of windows."""
    key, axis = dg.AssetKey([spec.name, "drift"]), model_axis(spec)

    @dg.asset(
        key=key,
        partitions_def=axis,
        deps=[dg.AssetKey([spec.name, "promotion"])],
        group_name=slug(spec.name),
        owners=[spec.owner] if spec.owner else None,
        tags=facts.tags_of("model", spec.name),
        kinds={"evidently"},
        output_required=False,
        check_specs=[dg.AssetCheckSpec("window_resembles_baseline", asset=key, partitions_def=axis)],
        description="Drift of recent predictions against the training baseline. Too few predictions: unknown, never 'no drift'.",
    )
    def drift(context: dg.AssetExecutionContext, house: House):  # type: ignore[no-untyped-def] # yields
        from zebra_assets.loop import watch

        try:
            report = watch(house.parts, spec, evidently="drifted")
        except ZebraError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        if report is None or report.manifest_id != context.partition_key:
            context.log.info(f"Nothing in {spec.promotion.alias_prod} was trained on {context.partition_key}; there is nothing to watch.")
            return
        context.log.info(report.reason)
        yield dg.Output(report, metadata=facts.of_drift(report))
        yield dg.AssetCheckResult(
            passed=report.state == "stable",  # unknown is not "no drift": it shows as a warning, too
            check_name="window_resembles_baseline",
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"state": report.state, "reason": report.reason},
        )

    return drift
