"""SIGKILL of the whole process tree at random moments of ingest -> promote: a rerun completes, and nothing is twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

REPO = Path(__file__).parents[2]
MODEL = "tabular-churn"
KILLS = int(os.environ.get("ZEBRA_TEST_KILLS", "20"))


def start(project):
    argv = [sys.executable, "-m", "zebra_assets.cli.main", "--project", str(project), "demo", "--until", "promoted"]
    return subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def kill_tree(pid):
    """Kill every descendant at once, whatever process group it put itself in."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        process.suspend()
    for process in family:
        process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    for part in ("models", "manifests", "dagster_home"):
        shutil.copytree(
            REPO / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.json", "history", "schedules", "storage")
        )
    shutil.copyfile(REPO / "workspace.yaml", folder / "workspace.yaml")
    return folder


@pytest.fixture(scope="module")
def whole(project):
    """Seconds of one undisturbed walk."""
    began = time.monotonic()
    process = start(project)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    shutil.rmtree(project / ".zebraops")
    return time.monotonic() - began


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(KILLS))
def test_a_rerun_after_a_kill_completes_and_nothing_is_twice(project, whole, number):
    moment = random.Random(number).uniform(0.3, whole)
    process = start(project)
    time.sleep(moment)
    kill_tree(process.pid)
    process.communicate()
    demo = project / ".zebraops" / "demo"
    for manifest in (demo / "manifests").rglob("*.json"):
        assert manifest.stat().st_size > 0
        Parts(load_settings(demo)).manifests.get(manifest.stem)

    rerun = start(project)
    out, _ = rerun.communicate(timeout=240)
    assert rerun.returncode == 0, f"killed after {moment:.1f} s:\n{out}"
    parts = Parts(load_settings(demo))
    from mlflow import MlflowClient

    client = MlflowClient(parts.settings.tracking)
    versions = client.search_model_versions(f"name='{MODEL}'")
    assert [v.version for v in versions] in ([1], ["1"]), f"killed after {moment:.1f} s"
    assert len(parts.manifests.list(MODEL)) == 1
    assert [(p.version, p.state) for p in parts.ledger.history(MODEL, "prod")] == [("1", "done")]
    assert [r.state for r in parts.records.runs(MODEL)] == ["finished"]
    shutil.rmtree(project / ".zebraops")
