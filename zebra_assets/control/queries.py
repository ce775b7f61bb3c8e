"""What can be asked about a project: lists, one thing, history. Changes nothing.

Answers are nouns or small frozen rows; how they are shown is the business of `cli` and the console.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zebra_assets.contracts.dataset_spec import load_dataset_spec
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.model_spec import load_model_spec
from zebra_assets.contracts.names import check_manifest_id
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import DriftReport
from zebra_assets.control.specs import dataset_spec as dataset_spec
from zebra_assets.control.specs import declared
from zebra_assets.control.specs import model_spec as model_spec
from zebra_assets.errors import ZebraError
from zebra_assets.loop.pages import evidently_key
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    from zebra_assets.promotion.reconcile import Astray


@dataclass(frozen=True)
class ModelRow:
    """A model at a glance; ``problem`` says why its spec cannot be read."""

    name: str
    type: str | None
    datasets: list[str]
    owner: str | None
    spec_digest: str | None
    latest_run: Run | None
    prod: str | None
    staging: str | None
    problem: str | None = None


@dataclass(frozen=True)
class DatasetRow:
    """A dataset at a glance."""

    name: str
    connector: str | None
    owner: str | None
    manifests: int
    newest: Manifest | None
    problem: str | None = None


def models(parts: Parts) -> list[ModelRow]:
    """Every model the project declares, those with a broken spec included."""
    return [_model_row(parts, name) for name in declared(parts.settings.models_dir, "model.yaml")]


def _model_row(parts: Parts, name: str) -> ModelRow:
    runs = parts.records.runs(name, limit=1)
    latest = runs[0] if runs else None
    try:
        spec = load_model_spec(parts.settings.models_dir / name)
    except ZebraError as error:
        return ModelRow(name, None, [], None, None, latest, None, None, problem=error.message)
    heads = [parts.ledger.head(name, alias) for alias in (spec.promotion.alias_prod, spec.promotion.alias_staging)]
    prod, staging = (head.version if head else None for head in heads)
    return ModelRow(name, spec.type, spec.datasets.names(), spec.owner, spec.digest, latest, prod, staging)


def datasets(parts: Parts) -> list[DatasetRow]:
    """Every dataset the project declares, with its newest manifest."""
    rows = []
    for name in declared(parts.settings.manifests_dir, "dataset.yaml"):
        manifests = parts.manifests.list(name)
        newest = manifests[0] if manifests else None
        try:
            spec = load_dataset_spec(parts.settings.manifests_dir / name)
            rows.append(DatasetRow(name, spec.source.connector, spec.owner, len(manifests), newest))
        except ZebraError as error:
            rows.append(DatasetRow(name, None, None, len(manifests), newest, problem=error.message))
    return rows


def runs(parts: Parts, model: str | None = None, limit: int = 20) -> list[Run]:
    """Runs, newest first."""
    if model is not None:
        model_spec(parts, model)
    return parts.records.runs(model, limit=limit)


def manifest(parts: Parts, manifest_id: str) -> Manifest:
    """One manifest. Raises `UsageError` for what cannot be an id, `NotFound` for what is none."""
    return parts.manifests.get(check_manifest_id(manifest_id))


def evidently_uri(parts: Parts, report: DriftReport) -> str | None:
    """Where Evidently's page of a drift report's window is, if one was drawn."""
    key = evidently_key(report)
    return parts.store.uri(key) if parts.store.exists(key) else None


def history(parts: Parts, model: str) -> list[Promotion]:
    """What was moved to prod and staging, by whom and why, newest first."""
    promotion = model_spec(parts, model).promotion
    rows = [row for alias in (promotion.alias_prod, promotion.alias_staging) for row in parts.ledger.history(model, alias)]
    return sorted(rows, key=lambda row: (row.created_at, row.seq), reverse=True)


def astray(parts: Parts) -> list["Astray"]:
    """Aliases that MLflow shows differently from the ledger: moved by hand, or a promotion that was cut short."""
    from zebra_assets.promotion.reconcile import drifted

    return drifted(ledger=parts.ledger, registry=parts.registry)
