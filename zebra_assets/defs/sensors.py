"""The one file that closes the ring: what happened asks for what comes next.

    source changed ──> ingest ──> new manifest ──> loop (train .. promote)
    predictions ──> monitor ──> drift report ──(edge, cool-down, budget)──> ingest
    labels ──> verdict on a route's candidates ──> the servers

A sensor answers once per fact and says in its skip message what it looked at; where it could not look, it raises, so that
an outage never reads as a quiet night.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from zebra_assets.contracts.manifest import Bundle
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import slug
from zebra_assets.defs.facts import tags_of
from zebra_assets.defs.leases import reap
from zebra_assets.defs.partitions import model_axis
from zebra_assets.defs.resources import House
from zebra_assets.defs.verdicts import verdict_sensor
from zebra_assets.project import Project

RUNNING = dg.DefaultSensorStatus.RUNNING


def new_manifest_sensor(project: Project, jobs: list[Any], every_s: int) -> dg.SensorDefinition:
    """A manifest the instance does not know yet becomes a partition and one run of each model that reads it.

    The partition table itself is the memory: there is no cursor to lose, and asking twice for a key is harmless.
    """

    @dg.sensor(name="new_manifest_sensor", jobs=jobs, minimum_interval_seconds=every_s, default_status=RUNNING)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SensorResult | dg.SkipReason:
        added: dict[str, set[str]] = {}
        requests: list[dg.RunRequest] = []
        known: dict[str, set[str]] = {}
        for spec in project.models.values():
            axis = str(model_axis(spec).name)
            if axis not in known:
                known[axis] = set(context.instance.get_dynamic_partitions(axis))
            for key in _keys_on_disk(house, spec):
                if key not in known[axis]:
                    added.setdefault(axis, set()).add(key)
                    requests.append(
                        dg.RunRequest(
                            run_key=f"loop:{spec.name}:{key}",
                            job_name=f"{slug(spec.name)}_loop",
                            partition_key=key,
                            tags={**tags_of("model", spec.name), "zebra/cause": "new-manifest"},
                        )
                    )
        if not requests:
            return dg.SkipReason(f"no new manifests among {sum(len(k) for k in known.values())} known")
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[
                dg.DynamicPartitionsDefinition(name=axis).build_add_request(sorted(keys)) for axis, keys in added.items()
            ],
        )

    return sensor


def _keys_on_disk(house: House, spec: ModelSpec) -> list[str]:
    """The partition keys a model could run on; file names suffice, so a tick costs one listing per dataset."""
    folder = house.settings.manifests_dir
    newest: dict[str, str] = {}
    for dataset in spec.datasets.names():
        files = sorted((folder / dataset).glob(f"{dataset}-*.json"), key=lambda p: p.stat().st_mtime)
        if len(spec.datasets.names()) == 1:
            return [p.stem for p in files]
        if not files:
            return []
        newest[dataset] = files[-1].stem
    bundle = Bundle(model=spec.name, roles={role: newest[dataset] for role, dataset in spec.datasets.roles().items()})
    house.parts.manifests.commit_bundle(bundle)
    return [bundle.id]


def source_sensor(project: Project, jobs: list[Any], every_s: int) -> dg.SensorDefinition:
    """A source whose revision changed since the last look is ingested; the schedule remains for sources without one."""

    @dg.sensor(name="source_sensor", jobs=jobs, minimum_interval_seconds=every_s, default_status=RUNNING)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SensorResult | dg.SkipReason:
        from zebra_assets.datasets.ingest import revision_of

        if not house.settings.watch_sources:
            return dg.SkipReason("watch_sources is off; sources are read on schedule and on drift")
        seen: dict[str, str | None] = json.loads(context.cursor or "{}")
        requests = []
        for name, spec in project.datasets.items():
            revision = revision_of(spec, project=house.settings.project_dir, secrets=house.settings.secrets)
            if revision is not None and seen.get(name) != revision:
                requests.append(_ingest_request(name, f"source:{name}:{revision}", "source-changed"))
            seen[name] = revision
        context.update_cursor(json.dumps(seen))
        if requests:
            return dg.SensorResult(run_requests=requests)
        blind = [name for name in project.datasets if seen[name] is None]
        unseen = f"; read on schedule only, absent or without a revision: {', '.join(blind)}" if blind else ""
        return dg.SkipReason(f"{len(project.datasets) - len(blind)} sources unchanged{unseen}")

    return sensor


def monitor_sensor(project: Project, jobs: list[Any], every_s: int) -> dg.SensorDefinition:
    """Every `drift.min_rows` new predictions of the serving version, its newest window is measured."""

    @dg.sensor(name="monitor_sensor", jobs=jobs, minimum_interval_seconds=every_s, default_status=RUNNING)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SensorResult | dg.SkipReason:
        from zebra_assets.loop import predictions_made

        measured: dict[str, int] = json.loads(context.cursor or "{}")
        requests, waiting = [], []
        for spec in project.models.values():
            head = house.parts.ledger.head(spec.name, spec.promotion.alias_prod)
            if head is None:
                waiting.append(f"{spec.name}: nothing in {spec.promotion.alias_prod}")
                continue
            key = f"{spec.name}/{head.version}"
            count = predictions_made(house.parts, spec.name, head.version)
            fresh = count - measured.get(key, 0)
            if fresh < spec.drift.min_rows:
                waiting.append(f"{spec.name} v{head.version}: {fresh} of {spec.drift.min_rows} new predictions")
                continue
            measured[key] = count
            requests.append(
                dg.RunRequest(
                    run_key=f"monitor:{spec.name}:{head.version}:{count}",
                    job_name=f"{slug(spec.name)}_monitor",
                    partition_key=head.manifest_id,
                    tags={**tags_of("model", spec.name), "zebra/cause": "predictions"},
                )
            )
        context.update_cursor(json.dumps(measured))
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("; ".join(waiting) or "no models")

    return sensor


def drift_sensor(project: Project, jobs: list[Any], every_s: int) -> dg.SensorDefinition:
    """The edge from stable to drifted asks for fresh data: a request to ingest, never straight to train."""

    @dg.sensor(name="drift_sensor", jobs=jobs, minimum_interval_seconds=every_s, default_status=RUNNING)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SensorResult | dg.SkipReason:
        from zebra_assets.drift.retrain import Ask, RetrainMemory, consider, failed

        memories: dict[str, Any] = json.loads(context.cursor or "{}")
        requests, said = [], []
        for spec in project.models.values():
            memory = RetrainMemory.model_validate(memories.get(spec.name, {}))
            if memory.open_ask is not None and _ingest_failed(context.instance, memory.open_ask.run_key, spec):
                memory = failed(memory, memory.open_ask.run_key)
            for seq, report in house.parts.records.drifts(spec.name, after=memory.last_seq):
                verdict, memory = consider(report, seq, memory, spec.drift, datetime.now(UTC))
                said.append(f"{spec.name}: {verdict.reason}")
                if isinstance(verdict, Ask):
                    requests += [_ingest_request(name, f"{verdict.run_key}:{name}", "drift", report.id) for name in spec.datasets.names()]
            memories[spec.name] = memory.model_dump(mode="json")
        context.update_cursor(json.dumps(memories))
        for line in said:
            context.log.info(line)
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("; ".join(said) or "no new drift reports")

    return sensor


def _ingest_failed(instance: dg.DagsterInstance, run_key: str, spec: ModelSpec) -> bool:
    """Whether a run that the ask started has failed: Dagster remembers its key all the same and would never start it again."""
    return any(
        instance.get_runs(
            dg.RunsFilter(
                tags={"dagster/run_key": f"{run_key}:{name}"}, statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
            ),
            limit=1,
        )
        for name in spec.datasets.names()
    )


def _ingest_request(dataset: str, run_key: str, cause: str, report: str | None = None) -> dg.RunRequest:
    tags = {**tags_of("dataset", dataset), "zebra/cause": cause, **({"zebra/drift-report": report} if report else {})}
    return dg.RunRequest(run_key=run_key, job_name=f"{slug(dataset)}_ingest", tags=tags)


def ledger_sensor(every_s: int) -> dg.SensorDefinition:
    """Aliases edited behind the ledger's back are put back and reported; promotions cut short are finished."""

    @dg.sensor(name="ledger_sensor", minimum_interval_seconds=every_s, default_status=RUNNING, target=None)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SkipReason:
        from zebra_assets.promotion.reconcile import reconcile

        parts = house.parts
        healed = reconcile(ledger=parts.ledger, registry=parts.registry, audit=parts.audit, actor="ledger_sensor")
        for heal in healed:
            context.log.warning(str(heal))
        return dg.SkipReason("; ".join(str(h) for h in healed) or "aliases agree with the ledger")

    return sensor


def lease_sensor(every_s: int) -> dg.SensorDefinition:
    """Runs whose process is gone are marked failed, so that the queue behind them moves."""

    @dg.sensor(name="lease_sensor", minimum_interval_seconds=every_s, default_status=RUNNING, target=None)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SkipReason:
        dead = reap(context.instance, house.parts.locks)
        return dg.SkipReason(f"marked failed, their process is gone: {', '.join(dead)}" if dead else "every started run has its process")

    return sensor


def failure_sensor() -> dg.SensorDefinition:
    """Every failed run leaves an audit entry that names it and its error."""

    @dg.run_failure_sensor(name="run_failure_audit", default_status=RUNNING, minimum_interval_seconds=10)
    def sensor(context: dg.RunFailureSensorContext, house: House) -> None:
        run = context.dagster_run
        errors = [e.event_specific_data.error_display_string for e in context.get_step_failure_events() if e.event_specific_data]  # type: ignore[union-attr]
        house.parts.audit.append(
            "dagster",
            "run.failed",
            run.run_id,
            {"job": run.job_name, "tags": {k: v for k, v in run.tags.items() if k.startswith("zebra/")}, "error": _first(errors)[:2000]},
        )

    return sensor


def _first(errors: list[str]) -> str:
    return errors[0] if errors else "no step failure recorded"


def build_sensors(project: Project, ingest: list[Any], loop: list[Any], monitor: list[Any], every_s: int) -> Iterator[dg.SensorDefinition]:
    """All sensors of a project."""
    if loop:
        yield new_manifest_sensor(project, loop, every_s)
        yield monitor_sensor(project, monitor, every_s)
    if ingest:
        yield source_sensor(project, ingest, every_s)
        yield drift_sensor(project, ingest, every_s)
    yield verdict_sensor(project, every_s)
    yield ledger_sensor(every_s)
    yield lease_sensor(every_s)
    yield failure_sensor()
