"""kill -9 between any two effects of a training: the rerun completes with one MLflow run and one model version."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.training.bench import Bench
from zebra_assets.adapters.records import SqlRecords
from zebra_assets.contracts.model_folder import model_digest
from zebra_assets.training.launchers.local import Local

MLFLOW_EFFECTS = (
    "create_experiment",
    "create_run",
    "log_batch",
    "log_artifacts",
    "create_registered_model",
    "create_model_version",
    "set_terminated",
)
# experiment, run, record, script, two uploads and a batch, model, version, end, record
EFFECTS = 11


def die_after(count: int) -> None:
    """Make this process kill itself once ``count`` effects have happened; with 0, before the first."""
    from mlflow.tracking.client import MlflowClient

    left = [count]

    def counted(effect: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return effect(*args, **kwargs)

        return call

    for name in MLFLOW_EFFECTS:
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    SqlRecords.save = counted(SqlRecords.save)  # type: ignore[method-assign]
    Local.run = counted(Local.run)  # type: ignore[method-assign]


def in_child(work: Callable[[], Any]) -> int:
    """Run ``work`` in a forked process, which has everything imported already; its exit status, -9 when killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("effects", range(EFFECTS + 1))
def test_a_training_killed_between_two_effects_completes_when_run_again(bench: Bench, quick_script: str, effects: int) -> None:
    import mlflow.tracking.client  # noqa: F401 (once, before forking)

    # As with any training, no two executions leave the same bytes.
    differs = "with (output / 'model' / 'requirements.txt').open('a') as f: f.write(f'# {os.getpid()}')\n"
    folder = bench.model("quick", quick_script + differs)

    def work() -> None:
        die_after(effects)
        bench.open()
        bench.train(folder, log=lambda _: None)

    assert in_child(work) == (0 if effects == EFFECTS else -signal.SIGKILL)
    bench.open()
    trained = bench.train(folder)
    assert trained.created == (effects < EFFECTS)
    assert trained.run.state == "finished" and trained.run.metrics == {"accuracy": 0.75}
    [version], [found] = bench.versions("quick"), bench.mlflow_runs()
    assert (str(version.version), version.tags["zebra.digest"]) == (trained.run.version, trained.run.model_digest)
    assert found.info.status == "FINISHED" and found.info.run_id == trained.run.mlflow_run_id
    downloaded = bench.registry.download("quick", "1", bench.folder / "down")
    assert model_digest(downloaded) == trained.run.model_digest
    assert bench.train(folder).run == trained.run


def test_a_killed_trainer_leaves_no_process_behind(bench: Bench, tmp_path: Path) -> None:
    import mlflow.tracking.client  # noqa: F401

    pids = tmp_path / "pids"
    folder = bench.model(
        "long",
        "import os, pathlib, subprocess, time\n"
        "p = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{p.pid}}')\n"
        "time.sleep(600)",
    )
    pid = os.fork()
    if pid == 0:
        try:
            bench.open()
            bench.train(folder, log=lambda _: None)
        finally:
            os._exit(1)
    patience = time.monotonic() + 10
    while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < patience:
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    started = [int(word) for word in pids.read_text().split()]
    while any(map(psutil.pid_exists, started)) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not [one for one in started if psutil.pid_exists(one)]
    bench.open()
    [run] = bench.records.runs("long")
    assert run.state == "running"  # nobody was left to say otherwise; the lock is free and a rerun resumes
    with bench.locks.hold(run.id):
        pass
