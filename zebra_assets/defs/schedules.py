"""Regular work: each dataset's ingest by its recipe's cron line (six-hourly by default), each model's drift check hourly."""

from typing import Any

import dagster as dg

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import slug
from zebra_assets.defs.resources import House


def ingest_schedule(spec: DatasetSpec, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Ingest by the recipe's own cron line."""
    return dg.ScheduleDefinition(
        name=f"{slug(spec.name)}_ingest_schedule",
        job=job,
        cron_schedule=spec.schedule,
        tags={"zebra/cause": "schedule"},
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def monitor_schedule(spec: ModelSpec, job: Any) -> dg.ScheduleDefinition:
    """Hourly, so that a trickle of predictions that never fills `min_rows` at once is looked at all the same."""

    @dg.schedule(
        name=f"{slug(spec.name)}_monitor_schedule",
        job=job,
        cron_schedule="17 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def schedule(context: dg.ScheduleEvaluationContext, house: House) -> dg.RunRequest | dg.SkipReason:
        head = house.parts.ledger.head(spec.name, spec.promotion.alias_prod)
        if head is None:
            return dg.SkipReason(f"{spec.name} has nothing in {spec.promotion.alias_prod} yet")
        when = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=f"monitor:{spec.name}:{when}", partition_key=head.manifest_id, tags={"zebra/cause": "schedule"})

    return schedule
