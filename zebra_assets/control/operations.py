"""The verbs behind every command and button: load the spec, find what the words mean, call the loop, return nouns.

Knows no click, no rich and no dagster; asks nobody and prints nothing. `queries` holds what only looks.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from zebra_assets import loop
from zebra_assets.control.specs import dataset_spec, model_spec
from zebra_assets.errors import NotFound, UsageError
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    from zebra_assets.contracts.promotion import Promotion
    from zebra_assets.contracts.run import Run
    from zebra_assets.contracts.verdicts import DriftReport, GateDecision
    from zebra_assets.datasets.ingest import Ingested
    from zebra_assets.promotion.reconcile import Healed
    from zebra_assets.training.train import Trained

Split = Literal["train", "valid", "test"]
Progress = Callable[[str, int | None], Any]


def ingest(parts: Parts, dataset: str, progress: Progress = lambda stage, rows: None) -> "Ingested":
    """Read a dataset's source and commit its manifest; the same rows give the same manifest. ``progress(stage, rows)``."""
    return loop.ingest_dataset(parts, dataset_spec(parts, dataset), progress=progress)


def train(
    parts: Parts,
    model: str,
    manifest_id: str | None = None,
    params: Mapping[str, Any] | None = None,
    again: bool = False,
    log: Callable[[str], Any] = lambda line: None,
) -> "Trained":
    """Train a candidate on a manifest, default the newest; the same inputs give the same run unless ``again``."""
    spec = model_spec(parts, model)
    key = manifest_id or loop.newest_key(parts, spec)
    return loop.train_candidate(parts, spec, key, params=params, again=again, log=log)


def evaluate(parts: Parts, model: str, run_id: str | None = None, split: Split | None = None) -> "loop.Judged":
    """Score a run, default the newest finished one, beside prod, and let the gate decide."""
    spec = model_spec(parts, model)
    return loop.judge(parts, spec, chosen_run(parts, model, run_id), split)


def promote(parts: Parts, model: str, run_id: str | None = None, to: str = "prod", reason: str = "") -> "tuple[Promotion, GateDecision]":
    """Move the alias to a run's version. A run without a verdict is evaluated first; the gate is asked either way.

    Args:
        to: ``prod``, ``staging`` or the spelling the spec gives them.

    Raises:
        GateClosed: the gate said no; the alias is where it was.
    """
    spec = model_spec(parts, model)
    alias = spec_alias(parts, model, to)
    run = chosen_run(parts, model, run_id)
    decision = parts.records.decision_for(run.id) or loop.judge(parts, spec, run).decision
    return loop.promote_run(parts, spec, run.id, alias, reason), decision


def rollback(parts: Parts, model: str, to_run_id: str | None = None, alias: str = "prod", reason: str = "") -> "Promotion":
    """Move the alias back to the version it named before, or to that of an earlier run."""
    from zebra_assets.promotion.rollback import rollback as station

    return station(
        model,
        spec_alias(parts, model, alias),
        to_run_id=to_run_id,
        records=parts.records,
        ledger=parts.ledger,
        registry=parts.registry,
        audit=parts.audit,
        actor=parts.settings.who,
        reason=reason,
    )


def reconcile(parts: Parts) -> list["Healed"]:
    """Make MLflow's aliases say what the ledger says; those that differed, with what could not be mended."""
    from zebra_assets.promotion.reconcile import reconcile as station

    return station(ledger=parts.ledger, registry=parts.registry, audit=parts.audit, actor=parts.settings.who)


def monitor(parts: Parts, model: str, html: bool = False) -> "DriftReport":
    """Judge the newest window of predictions against the baseline of what is in prod.

    Raises:
        NotFound: nothing is in prod yet.
    """
    report = loop.watch(parts, model_spec(parts, model), evidently="always" if html else "never")
    if report is None:
        raise NotFound(f"Model '{model}' has no prod version, so there is nothing to monitor.", fix=f"mlops promote {model} --to prod")
    return report


def chosen_run(parts: Parts, model: str, run_id: str | None) -> "Run":
    """The run of that id, or the newest finished one of the model.

    Raises:
        NotFound: there is none.
        UsageError: the run is another model's.
    """
    if run_id is None:
        run = next((r for r in parts.records.runs(model) if r.state == "finished" and r.version), None)
        if run is None:
            raise NotFound(f"Model '{model}' has no finished run.", fix=f"mlops train {model}")
        return run
    run = parts.records.run(run_id)
    if run is None:
        raise NotFound(f"No run '{run_id}'.", fix=f"mlops list runs --model {model}")
    if run.model != model:
        raise UsageError(f"Run {run_id} belongs to model '{run.model}', not '{model}'.", fix=f"mlops list runs --model {model}")
    return run


def spec_alias(parts: Parts, model: str, word: str) -> str:
    """What the spec calls prod or staging; only these two can be moved.

    Raises:
        UsageError: another alias.
    """
    promotion = model_spec(parts, model).promotion
    known = {"prod": promotion.alias_prod, "staging": promotion.alias_staging}
    alias = known.get(word, word)
    if alias not in known.values():
        raise UsageError(f"'{word}' is no alias of '{model}'.", fix=f"--to {' or --to '.join(known)}")
    return alias
