"""A world to promote in: real SQLite state, a real MLflow store, and runs with verdicts about them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.adapters.mlflow import MlflowRegistry, prepare
from zebra_assets.adapters.records import SqlRecords
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Ledger, Registry
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.contracts.verdicts import EvalReport, GateDecision, Scores
from zebra_assets.promotion import promote as verbs
from zebra_assets.promotion.gates import decide

VERSIONS = 16
_names = itertools.count(1)


@dataclass(frozen=True)
class World:
    """One model with 16 registered versions, its state and its registry. Small enough to be sent to another process."""

    url: str
    tracking: str
    spec: ModelSpec
    wrap: Callable[[Any], Any] | None = None  # puts something between the stations and their ports

    @property
    def records(self) -> SqlRecords:
        return SqlRecords(self.url)

    @property
    def audit(self) -> SqlAudit:
        return SqlAudit(self.url)

    @property
    def ledger(self) -> Ledger:
        return self._wrapped(SqlLedger(self.url))

    @property
    def registry(self) -> Registry:
        return self._wrapped(MlflowRegistry(self.tracking, ui_url=None))

    def _wrapped(self, port: Any) -> Any:
        return self.wrap(port) if self.wrap else port

    def with_(self, **changes: Any) -> "World":
        return replace(self, **changes)

    def run(self, version: int | str) -> Run:
        """The finished run that made a version."""
        run_id = f"{self.spec.name}-run-{int(version):04d}"
        known = self.records.run(run_id)
        if known is not None:
            return known
        run = Run(
            id=run_id,
            model=self.spec.name,
            manifest_id=f"churn-{int(version):016x}",
            roles={"train": f"churn-{int(version):016x}"},
            spec_digest="0" * 64,
            code=CodeRevision(digest="0" * 64),
            created_at=now(),
            version=str(version),
            model_digest=digest_of(str(version)),
            state="finished",
        )
        self.records.save(run)
        return run

    def judge(self, version: int | str, auc: float = 0.8, *, rows: int = 200, split: str = "test") -> GateDecision:
        """Save a report with this figure, beside whatever prod names now, and the decision that follows."""
        run, head = self.run(version), SqlLedger(self.url).head(self.spec.name, "prod")
        beside = head if head and head.version != run.version else None
        report = EvalReport(
            id=f"eval-{digest_of([run.id, auc, split, beside.version if beside else None])[:24]}",
            model=self.spec.name,
            run_id=run.id,
            manifest_id=run.manifest_id,
            split=split,
            rows=rows,
            candidate=Scores(version=str(version), model_digest=run.model_digest or "", metrics={"roc_auc": auc}),
            champion=Scores(version=beside.version, model_digest=beside.model_digest, metrics={"roc_auc": 0.8}) if beside else None,
            difference=(auc - 0.82, auc - 0.8, auc - 0.78) if beside else None,
            created_at=now(),
        )
        decision = decide(self.spec, report)
        self.records.save(report)
        self.records.save(decision)
        return decision

    def promote(self, version: int | str, alias: str = "prod", **more: Any) -> Promotion:
        ports = {"records": self.records, "ledger": self.ledger, "registry": self.registry, "audit": self.audit}
        return verbs.promote(self.run(version).id, alias, **{"spec": self.spec, "actor": "ada", **ports, **more})

    def rollback(self, to: int | str | None = None, alias: str = "prod", **more: Any) -> Promotion:
        ports = {"records": self.records, "ledger": self.ledger, "registry": self.registry, "audit": self.audit}
        to_run_id = self.run(to).id if to is not None else None
        return verbs.rollback(self.spec.name, alias, to_run_id=to_run_id, **{"actor": "grace", **ports, **more})

    def reconcile(self) -> list[verbs.Healed]:
        return verbs.reconcile(ledger=self.ledger, registry=self.registry, audit=self.audit, actor="sensor")

    def move(self, version: int | str) -> Promotion:
        """Judge and promote."""
        self.judge(version)
        return self.promote(version)

    def shown(self, alias: str = "prod") -> str | None:
        """What MLflow itself says."""
        return MlflowRegistry(self.tracking, ui_url=None).alias(self.spec.name, alias)

    def history(self, alias: str = "prod") -> list[Promotion]:
        """Oldest first."""
        return SqlLedger(self.url).history(self.spec.name, alias)[::-1]

    def said(self) -> list[str]:
        """The actions in the audit log, in order."""
        return [e.action for e in self.audit.entries()]


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    prepare(uri, (folder / "artifacts").as_uri())
    return uri


@pytest.fixture
def world(tmp_path: Path, mlflow_store: str) -> World:
    name = f"churn-{next(_names)}"
    _register(mlflow_store, name)
    spec = ModelSpec.model_validate(
        {
            "name": name,
            "type": "python",
            "entrypoint": "train.py",
            "datasets": {"train": "churn", "valid": "churn"},
            "tracking": {"experiment_name": "churn"},
            "metrics": [{"name": "roc_auc", "direction": "maximize", "threshold": 0.78}],
        }
    )
    return World(f"sqlite:///{tmp_path / 'state.db'}", mlflow_store, spec)


def _register(uri: str, name: str) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri)
    store.create_registered_model(name)
    for _ in range(VERSIONS):
        store.create_model_version(name, "file:///nowhere")
