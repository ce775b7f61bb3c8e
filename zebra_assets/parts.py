"""The real adapters for a set of settings, each opened on first use.

Called by `defs/resources` and `control`, which stand above; stations receive the parts they need as arguments and never
see this class. The server has a composition root of its own (`zebra_serving/app`), so that it needs no dagster.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zebra_assets.settings import Settings

if TYPE_CHECKING:  # who opens one part should not import the contracts of all
    from zebra_assets.contracts.code_approval import Approvals
    from zebra_assets.contracts.ports import AuditLog, EventStore, Ledger, Locks, Manifests, ObjectStore, Records, Registry, Tracker
    from zebra_assets.contracts.route import Routes
    from zebra_assets.contracts.sketch import Sketches


@dataclass
class Parts:
    """One project's adapters."""

    settings: Settings

    @cached_property
    def store(self) -> "ObjectStore":
        from zebra_assets.adapters.object_store import open_store

        return open_store(self.settings.store, cache=self.settings.home / "cache", endpoint_url=self.settings.s3_endpoint_url)

    @cached_property
    def manifests(self) -> "Manifests":
        from zebra_assets.adapters.manifests import ManifestFolder

        return ManifestFolder(self.settings.manifests_dir, self.store)

    @cached_property
    def records(self) -> "Records":
        from zebra_assets.adapters.records import SqlRecords

        return SqlRecords(self.settings.state)

    @cached_property
    def ledger(self) -> "Ledger":
        from zebra_assets.adapters.ledger import SqlLedger

        return SqlLedger(self.settings.state)

    @cached_property
    def events(self) -> "EventStore":
        from zebra_assets.adapters.event_store import SqlEvents

        return SqlEvents(self.settings.state)

    @cached_property
    def sketches(self) -> "Sketches":
        from zebra_assets.adapters.sketches import SqlSketches

        return SqlSketches(self.settings.state)

    @cached_property
    def routes(self) -> "Routes":
        from zebra_assets.adapters.routes import SqlRoutes

        return SqlRoutes(self.settings.state)

    @cached_property
    def audit(self) -> "AuditLog":
        from zebra_assets.adapters.audit_log import SqlAudit

        return SqlAudit(self.settings.state)

    @cached_property
    def approvals(self) -> "Approvals":
        from zebra_assets.adapters.approvals import SqlApprovals

        return SqlApprovals(self.settings.state)

    @cached_property
    def tracker(self) -> "Tracker":
        from zebra_assets.adapters.mlflow import MlflowTracker

        return MlflowTracker(self.settings.tracking, self.settings.artifacts)

    @cached_property
    def registry(self) -> "Registry":
        from zebra_assets.adapters.mlflow import MlflowRegistry

        return MlflowRegistry(self.settings.tracking, ui_url=self.settings.mlflow_ui_url)

    @cached_property
    def locks(self) -> "Locks":
        from zebra_assets.adapters.locks import FileLocks

        return FileLocks(self.settings.home / "locks")
