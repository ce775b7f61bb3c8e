"""A run that was killed stops standing in the way."""

import signal
import subprocess
import sys
import time
import uuid

import dagster as dg
import pytest

from zebra_assets.defs.leases import reap

pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = "tabular-churn"
STARTED = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])


def leases(site):
    return sorted((site.folder / ".zebraops" / "locks").glob("dagster-run-*.lock"))


def test_a_run_whose_process_was_killed_is_marked_failed_and_a_living_one_is_left_alone(site):
    script = site.folder / "models" / MODEL / "train.py"
    script.write_text("import time\ntime.sleep(60)\n")
    argv = ["-m", "dagster", "asset", "materialize", "-m", "zebra_assets.defs.definitions", "--select", "group:tabular_churn"]
    process = subprocess.Popen(
        [sys.executable, *argv, "--partition", site.manifest_id], cwd=site.folder, env=site.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    end = time.monotonic() + 60
    while not leases(site) and time.monotonic() < end:
        time.sleep(0.1)
    with site.instance() as instance:
        run = instance.get_runs(STARTED)[0]
        assert reap(instance, site.parts.locks) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
        assert reap(instance, site.parts.locks) == [run.run_id]
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
        assert reap(instance, site.parts.locks) == []


def test_a_run_that_never_took_a_lease_is_left_alone(site):
    with site.instance() as instance:
        run = dg.DagsterRun(job_name="theirs", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        assert reap(instance, site.parts.locks) == []
