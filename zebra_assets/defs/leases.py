"""A run that dies with its process is marked failed, so that it stops counting against the limits on runs.

Dagster's default launcher watches no processes: a run killed by SIGKILL stays STARTED, and a limit of one run per model then
queues every later one until `max_runtime_seconds`. So each run that uses the house holds a file lock until its process ends,
and whoever starts or watches an instance reaps the runs whose lock is free. One machine only, like the embedded defaults;
launchers that leave the machine bring their own health checks.
"""

from contextlib import AbstractContextManager

import dagster as dg

from zebra_assets.contracts.ports import Locks
from zebra_assets.errors import Conflict

_PREFIX = "dagster-run-"
_HELD: list[AbstractContextManager[None]] = []  # until the process ends: a run outlives its resources by a moment


def hold(locks: Locks, run_id: str) -> None:
    """Hold a run's lease for as long as this process lives; a second process of the same run relies on the first."""
    lease = locks.hold(f"{_PREFIX}{run_id}")
    try:
        lease.__enter__()
    except Conflict:
        return
    _HELD.append(lease)


def reap(instance: dg.DagsterInstance, locks: Locks) -> list[str]:
    """Mark runs failed that took a lease and whose process is gone; their ids.

    A run that never took one (a user's own job without the house) is left alone: there is no evidence about it.
    """
    live = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    dead = []
    for run in instance.get_runs(dg.RunsFilter(statuses=live)):
        if not locks.known(f"{_PREFIX}{run.run_id}"):
            continue
        try:
            with locks.hold(f"{_PREFIX}{run.run_id}"):
                instance.report_run_failed(run, "Its process is gone: it was killed, or its machine went down.")
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        except Conflict:
            continue
        dead.append(run.run_id)
    return dead
