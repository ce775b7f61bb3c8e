"""Train one candidate: spec + manifests + code become a registered model version, exactly one per run id.

    lock -> MLflow run -> Run record -> inputs -> script -> model, metrics -> upload -> register -> finish -> Run record

Each arrow may be cut by kill -9. A rerun holds the same lock, finds the MLflow run by its tag, and either adopts the version
that the cut run registered or trains again from a fresh folder. Called by the asset `candidate` and by `mlops train`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.model_folder import model_digest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Launcher, Locks, ObjectStore, Records, Registry, Tracker
from zebra_assets.contracts.run import Run
from zebra_assets.errors import TrainingFailed, Unavailable, ZebraError
from zebra_assets.kinds import find
from zebra_assets.training.collect import collect_metrics, collect_model, collect_module, collect_params, stage_artifacts
from zebra_assets.training.inputs import Inputs, write_inputs
from zebra_assets.training.plan import check_python, plan
from zebra_assets.training.provenance import environment

Log = Callable[[str], Any]


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        created: False when a run of the same inputs had finished before and was returned.
        folder: the model folder on this machine, None when it is only in the registry.
    """

    run: Run
    created: bool
    folder: Path | None


def train(
    spec: ModelSpec,
    folder: Path,
    manifests: Mapping[str, Manifest],
    key: str,
    *,
    store: ObjectStore,
    tracker: Tracker,
    registry: Registry,
    records: Records,
    locks: Locks,
    workdir: Path,
    launcher: Launcher | None = None,
    params: Mapping[str, Any] | None = None,
    again: bool = False,
    tags: Mapping[str, str] | None = None,
    log: Log = print,
) -> Trained:
    """Train ``spec`` and register the model.

    Args:
        folder: models/<name>: where the code is.
        manifests: role (train, valid, test) to manifest.
        key: partition key: the manifest id, or the bundle id when roles name several datasets.
        workdir: runs work in <workdir>/<run id>/.
        launcher: where the script executes; default on this machine.
        params: overlaid on the spec's hyperparams.params.
        again: train once more although a run of the same inputs has finished.
        tags: more tags for the MLflow run, such as the orchestrator's run id.
        log: called with each line the script writes.

    Raises:
        TrainingFailed: the script failed, timed out or left no usable model; nothing was registered.
        Conflict: another process is training the same run.
        Unavailable: a store cannot be reached; running again resumes.
        SpecInvalid, NotFound, UsageError, DataInvalid, Refused: see the message; nothing was started.
    """
    check_python(spec, folder)
    wanted, finished = plan(spec, folder, manifests, key, records, params or {}, again)
    if finished is not None:
        return Trained(finished, False, None)
    work = _Work(
        spec, folder, manifests, store, tracker, registry, records, workdir, launcher or find("launcher", "local")(), dict(tags or {}), log
    )
    with locks.hold(wanted.id):
        # Somebody may have finished it between the look and the lock.
        known = records.run(wanted.id)
        if known is not None and known.state == "finished":
            return Trained(known, False, None)
        return work.do(wanted)


@dataclass
class _Work:
    """The parts of one training, so that its steps read as a list."""

    spec: ModelSpec
    folder: Path
    manifests: Mapping[str, Manifest]
    store: ObjectStore
    tracker: Tracker
    registry: Registry
    records: Records
    workdir: Path
    launcher: Launcher
    tags: dict[str, str]
    log: Log

    def do(self, run: Run) -> Trained:
        around = environment()
        run = run.model_copy(update={"environment": digest_of(around)})
        mlflow_run_id = self.tracker.start(self.spec.tracking.experiment_name, run, self._tags(run))
        run = run.model_copy(update={"mlflow_run_id": mlflow_run_id})
        self.records.save(run)
        with self._told(run):
            if (made := self.registry.registered(run.model, run.id)) is not None:
                self.log(f"run {run.id} had registered version {made[0]} before it was cut off")
                return Trained(self._finish(run, *made, self.tracker.metrics(mlflow_run_id)), True, None)
            inputs = write_inputs(
                self.spec,
                run,
                self.manifests,
                code=self.folder,
                store=self.store,
                tracking_uri=self.tracker.uri,
                workdir=self.workdir,
            )
            with self._kept(inputs, mlflow_run_id, around):
                self._execute(inputs)
                model = self._model(inputs, run, mlflow_run_id)
                metrics = collect_metrics(inputs, self.tracker.metrics(mlflow_run_id))
            self.tracker.log(mlflow_run_id, params={**collect_params(inputs), **run.params}, metrics=metrics)
            digest = model_digest(model)
            version = self.registry.register(run, model, digest)
            return Trained(self._finish(run, version, digest, metrics), True, model)

    def _tags(self, run: Run) -> dict[str, str]:
        tags = {
            "zebra.model": run.model,
            "zebra.manifest": run.manifest_id,
            "zebra.spec": run.spec_digest,
            "zebra.code": run.code.digest,
            "zebra.commit": run.code.commit,
            "zebra.dirty": None if run.code.dirty is None else str(run.code.dirty).lower(),
            "zebra.environment": run.environment,
            "zebra.attempt": str(run.attempt),
            "mlflow.source.name": f"models/{run.model}/{self.spec.entrypoint}",
            "mlflow.source.git.commit": run.code.commit,
        }
        return {**self.tags, **{name: value for name, value in tags.items() if value is not None}}

    def _execute(self, inputs: Inputs) -> None:
        """Run the script to its end; its lines go to the log and to train.log."""
        runner = find("runner", self.spec.type)()
        argv, more = runner.command(self.spec, self.folder.resolve(), inputs)
        with inputs.log.open("w", encoding="utf-8") as file:

            def both(line: str) -> None:
                file.write(line + "\n")
                self.log(line)

            code, tail = self.launcher.run(
                argv, env={**inputs.env, **more}, cwd=self.folder, timeout_s=self.spec.resources.timeout_s, log=both
            )
        if code:
            how = f"was killed by signal {code - 128}" if code > 128 else f"exited with {code}"
            why = f": {tail[-1].strip()}" if tail else " and wrote nothing to stderr"
            shown = "".join(f"\n  | {line}" for line in tail)
            raise TrainingFailed(
                f"models/{self.spec.name}/{self.spec.entrypoint} {how}{why}{shown}",
                fix=f"reproduce it with: cd {self.folder} && {' '.join(argv)}",
            )

    def _model(self, inputs: Inputs, run: Run, mlflow_run_id: str) -> Path:
        if self.spec.type == "module":
            return collect_module(inputs, run.code.digest)
        return collect_model(inputs, self.tracker, mlflow_run_id, run.created_at, self.launcher, self.log)

    def _finish(self, run: Run, version: str, digest: str, metrics: Mapping[str, float]) -> Run:
        assert run.mlflow_run_id is not None
        self.tracker.finish(run.mlflow_run_id, "finished")
        done = {"state": "finished", "ended_at": now(), "version": version, "model_digest": digest, "metrics": dict(metrics)}
        run = run.model_copy(update=done)
        self.records.save(run)
        return run

    @contextmanager
    def _kept(self, inputs: Inputs, mlflow_run_id: str, around: Mapping[str, Any]) -> Iterator[None]:
        """Log, config and outputs are uploaded, of a failed script too: that is when people want to read them."""
        try:
            yield
        except Exception:
            try:
                self.tracker.log_files(mlflow_run_id, stage_artifacts(inputs, self.folder, around))
            except Unavailable as error:
                self.log(f"the log stays in {inputs.log}: {error.message}")
            raise
        self.tracker.log_files(mlflow_run_id, stage_artifacts(inputs, self.folder, around))

    @contextmanager
    def _told(self, run: Run) -> Iterator[None]:
        """Whatever ends the block early, the record and the MLflow run say how it ended."""
        try:
            yield
        except Exception as error:
            self._end(run, "failed", error.message if isinstance(error, ZebraError) else f"{type(error).__name__}: {error}")
            raise
        except BaseException as error:  # KeyboardInterrupt, or the orchestrator's own interruption
            self._end(run, "cancelled", f"cancelled ({type(error).__name__})")
            raise

    def _end(self, run: Run, state: Literal["failed", "cancelled"], why: str) -> None:
        assert run.mlflow_run_id is not None
        self.records.save(run.model_copy(update={"state": state, "ended_at": now(), "error": why}))
        try:
            self.tracker.finish(run.mlflow_run_id, state)
        except Unavailable as error:
            self.log(f"MLflow run {run.mlflow_run_id} could not be marked {state}: {error.message}")
