"""Light handles: what travels between assets instead of the thing itself."""

from zebra_assets.contracts.names import Digest, ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun


class TableHandle(Noun):
    """A table at rest in the object store."""

    key: str
    uri: str
    digest: Digest
    rows: int
    bytes: int


class ModelHandle(Noun):
    """A registered model version at rest in MLflow."""

    model: Name
    version: Version
    model_digest: Digest
    run_id: str
    mlflow_run_id: str
    manifest_id: ManifestId

    @property
    def uri(self) -> str:
        """The MLflow URI of the version."""
        return f"models:/{self.model}/{self.version}"
