"""One factory per model: candidate, predictions, evaluation, decision, promotion, each a doorway to its station."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from zebra_assets.contracts.digest import digest_of, tree_digest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import slug
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import EvalReport, GateDecision
from zebra_assets.defs import facts
from zebra_assets.defs.handles import ModelHandle
from zebra_assets.defs.partitions import model_axis
from zebra_assets.defs.resources import House
from zebra_assets.errors import GateClosed, NotFound, ZebraError


def model_assets(spec: ModelSpec, folder: Path) -> list[dg.AssetsDefinition]:
    """The chain of one model, keyed by the manifest id of its data.

    Args:
        folder: `models/<name>`; its files are part of the candidate's code version, so that an edit makes it stale.
    """
    axis = model_axis(spec)
    inputs = {name: dg.AssetKey([name, "dataset"]) for name in spec.datasets.names()}
    shared: dict[str, Any] = {
        "partitions_def": axis,
        "group_name": slug(spec.name),
        "owners": [spec.owner] if spec.owner else None,
        "tags": facts.tags_of("model", spec.name),
    }
    # With one dataset the manifest arrives through the corridor; with several, their axes differ from the bundle's, so
    # they are shown as lineage and resolved from the key.
    upstream = (
        [dg.AssetDep(key) for key in inputs.values()]
        if len(inputs) == 1
        else [dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in inputs.values()]
    )
    code = digest_of([spec.digest, tree_digest(folder, _sources(folder))])[:16]

    def key(step: str) -> dg.AssetKey:
        return dg.AssetKey([spec.name, step])

    @dg.asset(
        **shared,
        key=key("candidate"),
        deps=upstream,
        code_version=code,
        kinds={"jupyter" if spec.type == "notebook" else "python", "mlflow"},
        description=f"A model version trained by models/{spec.name}/{spec.entrypoint}, registered in MLflow. {spec.notes}".strip(),
    )
    def candidate(context: dg.AssetExecutionContext, house: House):  # type: ignore[no-untyped-def] # an annotation would say Nothing
        from zebra_assets.loop import train_candidate

        with _told():
            tags = {"dagster_run_id": context.run.run_id}
            trained = train_candidate(house.parts, spec, context.partition_key, tags=tags, log=_to_stdout)
        url = house.parts.registry.url(spec.name, str(trained.run.version))
        return dg.MaterializeResult(value=trained.run, metadata=facts.of_run(trained.run, mlflow_url=url, reused=not trained.created))

    @dg.asset(
        **shared,
        key=key("predictions"),
        ins={"candidate": dg.AssetIn(key("candidate"))},
        kinds={"parquet"},
        description="The candidate's predictions on the held-out rows.",
    )
    def predictions(context: dg.AssetExecutionContext, candidate: ModelHandle, house: House) -> pa.Table:
        from zebra_assets.loop import held_out, resolve
        from zebra_assets.loop.predictions import predictions

        manifests = resolve(house.parts, spec, context.partition_key)
        role = held_out(manifests)
        with _told():
            return predictions(house.parts, spec.name, candidate.version, candidate.model_digest, manifests[role], role)

    @dg.asset(
        **shared,
        key=key("evaluation"),
        ins={"candidate": dg.AssetIn(key("candidate"))},
        deps=[key("predictions")],
        kinds={"html"},
        code_version=digest_of([m.model_dump() for m in spec.metrics])[:16],
        description="Scores on held-out rows with bootstrap intervals, beside prod's on the same rows.",
    )
    def evaluation(context: dg.AssetExecutionContext, candidate: ModelHandle, house: House):  # type: ignore[no-untyped-def] # an annotation would say Nothing
        from zebra_assets.loop import judge, report_picture

        with _told():
            report = judge(house.parts, spec, _run(house, candidate)).report
        return dg.MaterializeResult(value=report, metadata=facts.of_report(report, report_picture(house.parts, spec, report)))

    @dg.asset(
        **shared,
        key=key("decision"),
        ins={"evaluation": dg.AssetIn(key("evaluation"))},
        kinds={"gate"},
        check_specs=[dg.AssetCheckSpec("promotion_gate", asset=key("decision"), partitions_def=axis)],
        description="May this version take an alias? A no is a successful run.",
    )
    def decision(context: dg.AssetExecutionContext, evaluation: EvalReport, house: House):  # type: ignore[no-untyped-def] # an annotation would say Nothing
        from zebra_assets.promotion.gates import decide

        verdict = decide(spec, evaluation)
        house.parts.records.save(verdict)
        for reason in verdict.reasons:
            context.log.info(reason)
        check = dg.AssetCheckResult(
            passed=verdict.allowed, check_name="promotion_gate", severity=dg.AssetCheckSeverity.WARN, metadata=facts.of_decision(verdict)
        )
        return dg.MaterializeResult(value=verdict, metadata=facts.of_decision(verdict), check_results=[check])

    @dg.asset(
        **shared,
        key=key("promotion"),
        ins={"decision": dg.AssetIn(key("decision"))},
        output_required=False,
        kinds={"mlflow", "ledger"},
        description="The alias moves, if the persisted decision says so; asked again here, whoever calls.",
    )
    def promotion(context: dg.AssetExecutionContext, decision: GateDecision, house: House):  # type: ignore[no-untyped-def] # yields
        moved = _promote(context, spec, decision, house)
        if moved is not None:
            yield dg.Output(moved, metadata=facts.of_promotion(moved))

    return [candidate, predictions, evaluation, decision, promotion]


def _promote(context: dg.AssetExecutionContext, spec: ModelSpec, decision: GateDecision, house: House) -> Promotion | None:
    """Ask `promote`; a closed gate ends a chain run green, and fails a run that asked for the promotion alone, or CI."""
    from zebra_assets.loop import promote_run

    tags = context.run.tags
    actor = next((f"{kind}:{tags[tag]}" for kind in ("sensor", "schedule") if (tag := f"dagster/{kind}_name") in tags), None)
    reason = f"gate open in dagster run {context.run.run_id}"
    try:
        return promote_run(house.parts, spec, decision.run_id, house.settings.auto_promote_alias, reason=reason, actor=actor)
    except GateClosed as error:
        context.log.warning(str(error))
        chosen = context.run.asset_selection
        alone = chosen is not None and dg.AssetKey([spec.name, "decision"]) not in chosen
        if alone or house.settings.gate_closed_fails:
            raise dg.Failure(str(error), metadata=facts.of_decision(decision), allow_retries=False) from error
        return None
    except ZebraError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _run(house: House, handle: ModelHandle) -> Run:
    run = house.parts.records.run(handle.run_id)
    if run is None:
        raise NotFound(f"Run {handle.run_id} is not in the state database.", fix=f"mlops train {handle.model}")
    return run


class _told:  # noqa: N801 - reads as a word in `with _told():`
    """Turns a `ZebraError` into a Dagster failure whose message is the error and its fix, never retried: a rerun cannot clear it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ZebraError):
            raise dg.Failure(str(error), allow_retries=False) from error


def _to_stdout(line: str) -> None:
    """The script's lines go to the run's compute log, which the UI streams."""
    print(line, flush=True)  # noqa: T201


def _sources(folder: Path) -> list[Path]:
    """The files whose edit makes a candidate stale: everything but caches and model.yaml, which the spec digest covers."""
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc" and p.name != "model.yaml"]
