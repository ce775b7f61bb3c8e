"""dagster-mlflow keeps working on the project's own store."""

import dagster as dg
import pytest

from zebra_assets.defs.compat import end_mlflow_on_run_finished, mlflow_compat
from zebra_assets.settings import load_settings


@pytest.mark.filterwarnings("ignore")
def test_a_users_op_logs_through_dagster_mlflow_and_its_run_ends(tmp_path):
    from mlflow import MlflowClient

    settings = load_settings(tmp_path)
    settings.home.mkdir()

    @dg.op(required_resource_keys={"mlflow"})
    def mine(context):
        context.resources.mlflow.log_metric("rows", 3)

    @end_mlflow_on_run_finished
    @dg.job(resource_defs={"mlflow": mlflow_compat("theirs", settings)})
    def job():
        mine()

    assert job.execute_in_process(instance=dg.DagsterInstance.ephemeral()).success
    client = MlflowClient(settings.tracking)
    runs = client.search_runs([client.get_experiment_by_name("theirs").experiment_id])
    assert [(r.data.metrics, r.info.status) for r in runs] == [({"rows": 3.0}, "FINISHED")]
