"""Promotion: one row of the ledger, the truth about which version an alias names."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from zebra_assets.contracts.names import Digest, ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun


class Promotion(Noun):
    """The alias moved from one version to another. `seq` counts from 1 per model and alias and gives the order."""

    model: Name
    alias: Name
    seq: int = Field(ge=1)
    kind: Literal["promote", "rollback"]
    version: Version
    from_version: Version | None
    run_id: str
    manifest_id: ManifestId
    model_digest: Digest
    decision_id: str
    actor: str
    reason: str
    state: Literal["intent", "done"] = "intent"
    created_at: datetime
