"""Run: what ran on what, and what came of it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from zebra_assets.contracts.names import Digest, ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun


class CodeRevision(Noun):
    """Which code ran: the digest of the model's folder, and the commit around it where there is one."""

    digest: Digest
    commit: str | None = None
    dirty: bool | None = None


class Run(Noun):
    """One training run. Its id is a digest of its inputs, so the same inputs name the same run."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{7,63}$")
    model: Name
    manifest_id: ManifestId
    roles: dict[str, ManifestId] = Field(description="Role (train, valid, test) to manifest id.")
    spec_digest: Digest
    code: CodeRevision
    environment: Digest | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    attempt: int = 1
    state: Literal["running", "finished", "failed", "cancelled"] = "running"
    created_at: datetime
    ended_at: datetime | None = None
    mlflow_run_id: str | None = None
    version: Version | None = Field(default=None, description="The registered model version, once there is one.")
    model_digest: Digest | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    error: str | None = None
