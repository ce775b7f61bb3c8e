"""MLflow's model registry: versions and aliases.

An alias is a projection of the promotion ledger, and `set_alias` holds the one line that moves it. A version is made once
per run and bytes: MLflow offers no such promise, so the tags zebra.run_id and zebra.digest carry it.
"""

import os
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from zebra_assets.adapters.mlflow_client import TRANSFER_S, absent, connect, find_or_create, repeat, unavailable
from zebra_assets.contracts.model_folder import model_digest
from zebra_assets.contracts.run import Run
from zebra_assets.errors import NotFound


class MlflowRegistry:
    """The port `Registry` on MLflow.

    Args:
        uri: tracking and registry URI.
        ui_url: where people open MLflow, None when there is no server.
    """

    def __init__(self, uri: str, *, ui_url: str | None) -> None:
        self.uri = uri
        self._ui_url = ui_url

    @cached_property
    def _client(self) -> Any:
        if (found := connect(self.uri)) is None:
            raise unavailable(self.uri, "no MLflow store was prepared there")
        return found

    def register(self, run: Run, model_dir: Path, digest: str) -> str:
        """The version holding ``model_dir`` for ``run``; the same run and digest again give the same version."""
        mlflow = self._client
        tags = {
            "zebra.run_id": run.id,
            "zebra.digest": digest,
            "zebra.manifest": run.manifest_id,
            "zebra.spec": run.spec_digest,
            "zebra.code": run.code.digest,
        }

        def find() -> Any | None:
            return self._versions(run.model, f"tags.`zebra.run_id` = '{run.id}' and tags.`zebra.digest` = '{digest}'")

        found = repeat(self.uri, find)
        if found is None:
            self._ensure_model(run.model)
            source = self._upload(run, model_dir, digest)
            found = find_or_create(
                self.uri,
                find,
                lambda: mlflow.create_model_version(run.model, source, run_id=run.mlflow_run_id, tags=tags, await_creation_for=0),
            )
        return str(found.version)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        mlflow = self._client

        def find() -> Any | None:
            try:
                return mlflow.get_registered_model(name)
            except MlflowException as error:
                if absent(error):
                    return None
                raise

        def create() -> None:
            try:
                mlflow.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

        find_or_create(self.uri, find, create)

    def _upload(self, run: Run, model_dir: Path, digest: str) -> str:
        """Upload the folder to its MLflow run and return its URI. What an earlier, killed upload left is stepped around."""
        mlflow = self._client
        listed = repeat(self.uri, lambda: mlflow.list_artifacts(run.mlflow_run_id, "model"))
        into = "model" if not listed else f"model-{digest[:12]}"
        repeat(self.uri, lambda: mlflow.log_artifacts(run.mlflow_run_id, os.fspath(model_dir), into), timeout_s=TRANSFER_S)
        root = repeat(self.uri, lambda: mlflow.get_run(run.mlflow_run_id)).info.artifact_uri
        return f"{root}/{into}"

    def _versions(self, model: str, having: str) -> Any | None:
        """The earliest version of ``model`` that fits, or None; later twins are marked as such."""
        mlflow = self._client
        found = sorted(mlflow.search_model_versions(f"name = '{model}' and {having}"), key=lambda v: int(v.version))
        kept = [v for v in found if "zebra.duplicate_of" not in v.tags]
        for late in kept[1:]:  # a lost reply made it; the earliest stays
            mlflow.set_model_version_tag(model, late.version, "zebra.duplicate_of", str(kept[0].version))
        return kept[0] if kept else None

    def registered(self, model: str, run_id: str) -> tuple[str, str] | None:
        """(version, digest) of the model version that a run made, or None."""
        found = repeat(self.uri, lambda: self._versions(model, f"tags.`zebra.run_id` = '{run_id}'"))
        return None if found is None else (str(found.version), found.tags["zebra.digest"])

    def download(self, model: str, version: str, into: Path) -> Path:
        """Copy the version's files below ``into`` and return the model folder; a copy with the promised digest is kept.

        Raises:
            NotFound: no such version, or its files are gone.
        """
        from mlflow.artifacts import download_artifacts

        found = self._version(model, version)
        target = into / f"{model}-{version}"
        if target.is_dir() and model_digest(target) == found.tags.get("zebra.digest"):
            return target
        into.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=into, prefix=f".{target.name}-"))
        try:
            copy = repeat(
                self.uri,
                lambda: download_artifacts(artifact_uri=found.source, dst_path=os.fspath(scratch), tracking_uri=self.uri),
                timeout_s=TRANSFER_S,
            )
            shutil.rmtree(target, ignore_errors=True)
            Path(copy).rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return target

    def _version(self, model: str, version: str) -> Any:
        from mlflow.exceptions import MlflowException

        mlflow = self._client
        try:
            return repeat(self.uri, lambda: mlflow.get_model_version(model, version))
        except MlflowException as error:
            if absent(error):
                raise NotFound(f"MLflow knows no version {version} of '{model}'.", fix=f"mlops list runs; mlops train {model}") from error
            raise

    def alias(self, model: str, alias: str) -> str | None:
        """The version an alias names in MLflow, or None."""
        from mlflow.exceptions import MlflowException

        mlflow = self._client
        try:
            return str(repeat(self.uri, lambda: mlflow.get_model_version_by_alias(model, alias)).version)
        except MlflowException as error:
            # MLflow answers INVALID_PARAMETER_VALUE for an alias that is not set.
            if absent(error) or error.error_code == "INVALID_PARAMETER_VALUE":
                return None
            raise

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point the alias at a version. Called by `promotion/promote` only.

        Raises:
            NotFound: no such version.
            Unavailable: not answered, or MLflow names another version afterwards.
        """
        self._version(model, version)
        mlflow = self._client
        repeat(self.uri, lambda: mlflow.set_registered_model_alias(model, alias, version))
        if (names := self.alias(model, alias)) != version:
            raise unavailable(self.uri, f"alias '{alias}' of '{model}' was set to {version} but names {names}")

    def url(self, model: str, version: str) -> str | None:
        """A link a person can open, where MLflow is a server."""
        return f"{self._ui_url.rstrip('/')}/#/models/{model}/versions/{version}" if self._ui_url else None
