"""Which version an alias names in MLflow, read without MLflow.

The prediction server looks every few seconds; importing MLflow would cost it 165 MB and 1.4 s for one row. So: one GET of MLflow's
REST interface, or one SELECT of its own table (both as they are since MLflow 2.3). Moving an alias is `mlflow_registry`'s.
"""

import os
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from zebra_assets.adapters.mlflow_client import is_server, sqlite_path, unavailable

TIMEOUT_S = 10.0
_QUERY = text("SELECT version FROM registered_model_aliases WHERE name = :model AND alias = :alias")


class AliasReader:
    """Reads aliases of the registry at ``uri``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._engine: Engine | None = None

    def alias(self, model: str, alias: str) -> str | None:
        """The version an alias names, or None.

        Raises:
            Unavailable: nothing answers.
        """
        return self._ask(model, alias) if is_server(self.uri) else self._select(model, alias)

    def _ask(self, model: str, alias: str) -> str | None:
        import httpx

        url = f"{self.uri.rstrip('/')}/api/2.0/mlflow/registered-models/alias"
        try:
            answer = httpx.get(url, params={"name": model, "alias": alias}, headers=_token(), auth=_login(), timeout=TIMEOUT_S)
            said: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise unavailable(self.uri, str(error) or type(error).__name__) from error
        if answer.is_success:
            return str(said["model_version"]["version"])
        # An alias that was never set is an INVALID_PARAMETER_VALUE to MLflow, an unknown model RESOURCE_DOES_NOT_EXIST.
        if said.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise unavailable(self.uri, f"{answer.status_code} {said.get('error_code')}")

    def _select(self, model: str, alias: str) -> str | None:
        path = sqlite_path(self.uri)
        if path is not None and not path.is_file():  # connecting would make an empty one
            raise unavailable(self.uri, "no MLflow store was prepared there")
        try:
            self._engine = self._engine or create_engine(self.uri, pool_pre_ping=True)
            with self._engine.connect() as connection:
                found = connection.execute(_QUERY, {"model": model, "alias": alias}).scalar()
        except SQLAlchemyError as error:
            raise unavailable(self.uri, str(error).splitlines()[0]) from error
        return None if found is None else str(found)


def _login() -> tuple[str, str] | None:
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    return (name, password) if name and password else None


def _token() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}
