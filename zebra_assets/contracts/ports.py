"""Ports: what the stations ask of the world. Adapters implement them; tests use the real adapters on temporary stores.

Every method may raise `Unavailable` when its store cannot be reached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zebra_assets.contracts.object_store import ObjectStore as ObjectStore

if TYPE_CHECKING:  # only signatures name them: who uses one port imports neither the nouns of all others, nor numpy, nor Arrow
    import numpy as np
    import pyarrow as pa

    from zebra_assets.contracts.events import Event, LabelEvent, Outcome, PredictionEvent
    from zebra_assets.contracts.manifest import Bundle, Manifest
    from zebra_assets.contracts.promotion import Promotion
    from zebra_assets.contracts.run import Run
    from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision

    Record = Run | EvalReport | GateDecision | DriftReport


class Manifests(Protocol):
    """The committed manifests of a project: JSON files in manifests/, mirrored in the object store."""

    def commit(self, manifest: Manifest, *, present: Collection[str] = ()) -> bool:
        """Make the manifest visible, last and atomically; True when new, False when it was there already.

        Args:
            present: keys of blobs that the caller has just put, or renewed; all others are read and hashed.

        Raises `Refused` when an artifact it names is absent or has other bytes, `Conflict` when the id exists for other content.
        """
        ...

    def get(self, manifest_id: str) -> Manifest:
        """Raises `NotFound`, naming `mlops ingest`."""
        ...

    def commit_bundle(self, bundle: Bundle) -> bool:
        """Make a bundle visible, atomically; True when new. Its manifests must exist (`NotFound`)."""
        ...

    def bundle(self, bundle_id: str) -> Bundle:
        """Raises `NotFound`."""
        ...

    def bundles(self, model: str) -> list[Bundle]:
        """A model's bundles, oldest first."""
        ...

    def list(self, dataset: str | None = None) -> list[Manifest]:
        """Manifests, newest first."""
        ...


class Records(Protocol):
    """Runs and verdicts by id, in the state database."""

    def save(self, record: Record) -> None:
        """Insert, or replace the record of the same id."""
        ...

    def run(self, run_id: str) -> Run | None: ...
    def report(self, report_id: str) -> EvalReport | None: ...
    def decision(self, decision_id: str) -> GateDecision | None: ...
    def decision_for(self, run_id: str) -> GateDecision | None:
        """The newest decision about a run."""
        ...

    def report_for(self, run_id: str) -> EvalReport | None:
        """The newest report about a run."""
        ...

    def runs(self, model: str | None = None, limit: int = 50) -> list[Run]:
        """Newest first."""
        ...

    def about(self, run_id: str) -> list[EvalReport | GateDecision]:
        """Every report and decision about a run, oldest first."""
        ...

    def drift(self, report_id: str) -> DriftReport | None: ...
    def ids(self) -> list[str]:
        """The id of every record, newest first."""
        ...

    def drifts(self, model: str, after: int = 0, limit: int = 50) -> list[tuple[int, DriftReport]]:
        """(sequence, report) pairs with sequence > ``after``, oldest first."""
        ...


class Ledger(Protocol):
    """Append-only truth about aliases. Each row added and each row done leaves an audit entry in the same transaction."""

    def head(self, model: str, alias: str) -> Promotion | None:
        """The row with the highest seq: what the alias names now."""
        ...

    def append(self, promotion: Promotion) -> None:
        """Insert ``promotion`` as head; `Conflict` unless its seq is exactly head + 1 and from_version the head's version."""
        ...

    def done(self, model: str, alias: str, seq: int, *, actor: str | None = None) -> None:
        """Mark a row, and older ones it has overtaken, as applied; ``actor`` is who saw it, default the row's own."""
        ...

    def history(self, model: str, alias: str) -> list[Promotion]:
        """Rows, newest first."""
        ...

    def heads(self) -> list[Promotion]:
        """The head of every model and alias."""
        ...


class EventStore(Protocol):
    """Typed facts, each stored exactly once."""

    def append(self, events: list[Event]) -> int:
        """Store events durably; how many were new (the others had a known event_id)."""
        ...

    def predictions(self, model: str, *, version: str | None = None, limit: int = 5000) -> list[PredictionEvent]:
        """The newest ``limit`` predictions, oldest first."""
        ...

    def known(self, model: str, event_ids: Collection[str]) -> set[str]:
        """Which of them are predictions of the model."""
        ...

    def requested(self, model: str, request_ids: Collection[str]) -> dict[str, list[str]]:
        """The event ids of each request's predictions, in order of arrival; requests without any are left out."""
        ...

    def labels(self, model: str, event_ids: Collection[str]) -> dict[str, LabelEvent]:
        """The label that holds for each of these predictions: the latest by `ts`, of one moment the last to arrive."""
        ...

    def outcomes(self, model: str) -> list[Outcome]:
        """The model's labelled predictions that a route had drawn, in the order in which their first labels arrived."""
        ...

    def count(self, model: str, type: str = "prediction_event", *, version: str | None = None) -> int: ...


class AuditEntry(Protocol):
    """One stored entry of the audit log."""

    def said(self) -> dict[str, Any]:
        """What was written: ``ts``, ``actor``, ``action``, ``subject`` and ``facts``."""
        ...


class AuditLog(Protocol):
    """Append-only, chained record of who did what."""

    def entries(self, *, subject: str | None = None, action: str | None = None, after: int = 0) -> Iterator[AuditEntry]:
        """Entries with a sequence number > ``after``, oldest first."""
        ...

    def append(self, actor: str, action: str, subject: str, body: Mapping[str, Any]) -> int:
        """Durably append and return the sequence number. If this raises, the action must not happen."""
        ...


class Tracker(Protocol):
    """MLflow tracking: one ZebraOps run is one MLflow run, found by the tag zebra.run_id."""

    uri: str

    def start(self, experiment: str, run: Run, tags: Mapping[str, str]) -> str:
        """Find or create the MLflow run of ``run`` and return its id."""
        ...

    def log(
        self, mlflow_run_id: str, *, params: Mapping[str, Any] = ..., metrics: Mapping[str, float] = ..., tags: Mapping[str, str] = ...
    ) -> None: ...
    def log_files(self, mlflow_run_id: str, folder: Path, into: str = "") -> None:
        """Upload a folder's files as artifacts below ``into``."""
        ...

    def finish(self, mlflow_run_id: str, state: Literal["finished", "failed", "cancelled"]) -> None: ...
    def metrics(self, mlflow_run_id: str) -> dict[str, float]:
        """The last value of each metric of a run."""
        ...

    def logged_model(self, mlflow_run_id: str, since: datetime, into: Path) -> Path | None:
        """Copy the model that a script logged to its run after ``since`` below ``into``; None when it logged none."""
        ...


class Registry(Protocol):
    """MLflow model registry."""

    def register(self, run: Run, model_dir: Path, digest: str) -> str:
        """The version holding ``model_dir`` for ``run``; the same run and digest again give the same version."""
        ...

    def registered(self, model: str, run_id: str) -> tuple[str, str] | None:
        """(version, digest) of the version that a run made, or None."""
        ...

    def download(self, model: str, version: str, into: Path) -> Path:
        """Copy the version's files below ``into`` and return the model folder. `NotFound` when there is no such version."""
        ...

    def alias(self, model: str, alias: str) -> str | None:
        """The version an alias names in MLflow, or None."""
        ...

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point the alias at a version. Called by `promotion/promote` only."""
        ...

    def url(self, model: str, version: str) -> str | None:
        """A link a person can open, where MLflow is a server."""
        ...


class Launcher(Protocol):
    """Where a training process executes. `local` starts it here; others start it elsewhere with the same contract."""

    def run(self, argv: list[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float, log: Any) -> tuple[int, list[str]]:
        """Run to the end, calling ``log(line)`` per line; the exit code and the last 20 lines of stderr.

        On timeout or cancel the whole process group is killed; a timeout raises `TrainingFailed`.
        """
        ...


class Locks(Protocol):
    """Mutual exclusion that a killed holder releases."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Hold the named lock; raises `Conflict` at once when another process holds it."""
        ...

    def known(self, name: str) -> bool:
        """Whether anybody has ever held it."""
        ...


class Feature(Protocol):
    """A column a model wants."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...


class Predictions(Protocol):
    """One prediction per row."""

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        """(n,) predicted classes, or values for a regression."""
        ...

    @property
    def scores(self) -> np.ndarray[Any, Any] | None:
        """(n,) probability of the model's positive class, 0 to 1; None where it has none."""
        ...


class Model(Protocol):
    """A model that is loaded and verified."""

    @property
    def features(self) -> Sequence[Feature]: ...
    @property
    def classes(self) -> Sequence[Any]:
        """The labels it can answer; empty for a regression."""
        ...

    @property
    def positive(self) -> Any | None:
        """Which of its classes the scores are about."""
        ...

    def predict(self, table: pa.Table) -> Predictions:
        """Raises `DataInvalid` when a feature is missing or does not fit its type."""
        ...
