"""dagster-mlflow, kept working for users' own ops; no asset of ours uses it.

Its resource opens one MLflow run per Dagster run and moves MLflow's process-wide state: two experiments in one in-process
run log into one of them. So: one experiment per job, always with the hook. Training uses explicit runs instead
(adapters/mlflow).

    @dg.op(required_resource_keys={"mlflow"})
    def mine(context): context.resources.mlflow.log_metric("rows", 3)

    @end_mlflow_on_run_finished
    @dg.job(resource_defs={"mlflow": mlflow_compat("my-experiment")})
    def job(): mine()
"""

from typing import Any

import dagster as dg

from zebra_assets.settings import Settings, load_settings


def mlflow_compat(experiment: str, settings: Settings | None = None) -> dg.ResourceDefinition:
    """`dagster_mlflow.mlflow_tracking` pointed at the project's MLflow store.

    Args:
        experiment: one per job; see the module's text.
    """
    from dagster_mlflow import mlflow_tracking

    chosen = settings or load_settings()
    return mlflow_tracking.configured({"experiment_name": experiment, "mlflow_tracking_uri": chosen.tracking})


def end_mlflow_on_run_finished(job: Any) -> Any:
    """dagster-mlflow's hook, imported on use: without it the run stays RUNNING and leaks into the process."""
    from dagster_mlflow import end_mlflow_on_run_finished as hook

    return hook(job)
