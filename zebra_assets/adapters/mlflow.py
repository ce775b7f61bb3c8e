"""MLflow tracking: one ZebraOps run is one MLflow run, found by the tag zebra.run_id. The registry is next door.

Explicit clients only, no active run: two trainings in one process never mix. `prepare` makes an embedded store ready and
is called by the initialiser, or by whoever comes first; an exclusive lock keeps others out while tables are made.
"""

import os
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from zebra_assets.adapters.mlflow_client import (
    TRANSFER_S,
    client,
    connect,
    find_or_create,
    is_server,
    preparing,
    probe,
    quiet,
    repeat,
    sqlite_path,
    unavailable,
)
from zebra_assets.adapters.mlflow_registry import MlflowRegistry
from zebra_assets.contracts.run import Run
from zebra_assets.errors import Conflict

__all__ = ["MlflowRegistry", "MlflowTracker", "prepare"]

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
_VALUE = 6000  # MLflow's longest parameter value


def prepare(uri: str, artifacts: str) -> None:
    """Make the store at ``uri`` ready: create or migrate its tables and its artifact folder. Again: nothing changes.

    Args:
        uri: tracking URI; a server is only asked whether it is there.
        artifacts: URL of the artifact root of an embedded store.

    Raises:
        Unavailable: nothing answers, or the place cannot be written.
    """
    if is_server(uri):
        probe(uri)
        return
    quiet()
    from mlflow.db import upgrade
    from mlflow.exceptions import MlflowException

    try:
        if artifacts.startswith("file:"):
            Path(artifacts.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        with preparing(uri):
            if not probe(uri):
                _create(uri)
                return
            try:
                client(uri)
            except MlflowException as error:
                if "out-of-date" not in str(error):
                    raise
                upgrade.main([uri], standalone_mode=False)
                client(uri)
    except (OSError, MlflowException) as error:
        raise unavailable(uri, str(error)) from error


def _create(uri: str) -> None:
    """Make a new store; an SQLite one under a hidden name first, because a half-migrated file can never be mended."""
    path = sqlite_path(uri)
    if path is None or path.exists():
        client(uri)
        return
    for left in path.parent.glob(f".{path.name}-*"):  # by a killed predecessor; we hold its lock now
        left.unlink()
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    client.__wrapped__(f"sqlite:///{scratch}")
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.rename(path)


class MlflowTracker:
    """The port `Tracker` on MLflow.

    Args:
        uri: tracking URI.
        artifacts: URL of the artifact root of an embedded store; a server decides for itself.
    """

    def __init__(self, uri: str, artifacts: str) -> None:
        self.uri = uri
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> Any:
        if (found := connect(self.uri)) is None:
            prepare(self.uri, self._artifacts)
            found = connect(self.uri)
        return found

    def start(self, experiment: str, run: Run, tags: Mapping[str, str]) -> str:
        """Find or create the MLflow run of ``run`` and return its id; an ended one is opened again."""
        mlflow = self._client
        place = self._experiment(experiment)
        every = {"zebra.run_id": run.id, **tags}

        def find() -> Any | None:
            found = mlflow.search_runs([place], f"tags.`zebra.run_id` = '{run.id}'", order_by=["attributes.start_time ASC"])
            for late in found[1:]:  # a lost reply made it; the earliest stays
                mlflow.set_tag(late.info.run_id, "zebra.duplicate_of", found[0].info.run_id)
            return found[0] if found else None

        found = find_or_create(self.uri, find, lambda: mlflow.create_run(place, tags=every, run_name=run.id))
        mlflow_run_id = str(found.info.run_id)
        if found.info.status != "RUNNING":
            repeat(self.uri, lambda: mlflow.update_run(mlflow_run_id, status="RUNNING"))
        if any(found.data.tags.get(name) != value for name, value in every.items()):
            self.log(mlflow_run_id, tags=every)
        return mlflow_run_id

    def _experiment(self, name: str) -> str:
        mlflow = self._client
        # Without a location MLflow would write ./mlruns wherever the process happens to stand.
        location = None if is_server(self.uri) else self._artifacts

        def create() -> None:
            from mlflow.exceptions import MlflowException

            try:
                mlflow.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # somebody else was a moment earlier
                    raise

        found = find_or_create(self.uri, lambda: mlflow.get_experiment_by_name(name), create)
        if found.lifecycle_stage != "active":
            raise Conflict(
                f"MLflow experiment '{name}' was deleted.",
                fix=f"mlflow experiments restore --experiment-id {found.experiment_id}, or name another in model.yaml",
            )
        return str(found.experiment_id)

    def log(
        self,
        mlflow_run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in one batch. Metrics carry the run's start time, so that logging them again changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        mlflow = self._client
        began = repeat(self.uri, lambda: mlflow.get_run(mlflow_run_id)).info.start_time if metrics else 0
        batch = {
            "params": [Param(name, str(value)[:_VALUE]) for name, value in (params or {}).items()],
            "metrics": [Metric(name, value, began, 0) for name, value in (metrics or {}).items()],
            "tags": [RunTag(name, str(value)) for name, value in (tags or {}).items()],
        }
        repeat(self.uri, lambda: mlflow.log_batch(mlflow_run_id, **batch))

    def log_files(self, mlflow_run_id: str, folder: Path, into: str = "") -> None:
        """Upload a folder's files as artifacts below ``into``."""
        mlflow = self._client
        repeat(self.uri, lambda: mlflow.log_artifacts(mlflow_run_id, str(folder), into or None), timeout_s=TRANSFER_S)

    def finish(self, mlflow_run_id: str, state: Literal["finished", "failed", "cancelled"]) -> None:
        """Set the run's final status."""
        mlflow = self._client
        repeat(self.uri, lambda: mlflow.set_terminated(mlflow_run_id, _STATUS[state], int(time.time() * 1000)))

    def metrics(self, mlflow_run_id: str) -> dict[str, float]:
        """The last value of each metric of a run."""
        mlflow = self._client
        return dict(repeat(self.uri, lambda: mlflow.get_run(mlflow_run_id)).data.metrics)

    def logged_model(self, mlflow_run_id: str, since: datetime, into: Path) -> Path | None:
        """Copy the model that a script logged to its run (`mlflow.sklearn.log_model`) below ``into``; None without one."""
        from mlflow.artifacts import download_artifacts

        mlflow = self._client
        outputs = repeat(self.uri, lambda: mlflow.get_run(mlflow_run_id)).outputs
        ids = [output.model_id for output in outputs.model_outputs] if outputs else []
        models = [repeat(self.uri, partial(mlflow.get_logged_model, one)) for one in ids]
        fresh = [m for m in models if m.creation_timestamp >= since.timestamp() * 1000]
        if not fresh:
            return None
        newest = max(fresh, key=lambda m: m.creation_timestamp)
        into.mkdir(parents=True, exist_ok=True)
        location = newest.artifact_location
        copy = repeat(
            self.uri,
            lambda: download_artifacts(artifact_uri=location, dst_path=os.fspath(into), tracking_uri=self.uri),
            timeout_s=TRANSFER_S,
        )
        return Path(copy)
