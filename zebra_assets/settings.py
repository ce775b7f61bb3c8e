"""The only reader of the environment, of `.env` and of profiles.

A setting comes from, first found wins: the environment (`ZEBRA_<FIELD>`), `<project>/.env`, the profile
`infra/profiles/<profile>.yaml`, the default here. Defaults are the embedded ones: SQLite and local files below
`<project>/.zebraops/`. `.env.example` mirrors every field, and a test compares the two.
"""

import getpass
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from zebra_assets.contracts.yaml_source import load
from zebra_assets.errors import SpecInvalid, UsageError, closest, did_you_mean


class Settings(BaseSettings):
    """A deployment's settings. Secrets are `SecretStr` and never printed."""

    model_config = SettingsConfigDict(env_prefix="ZEBRA_", extra="ignore", frozen=True)

    project_dir: Path = Field(description="Folder that holds models/ and manifests/.")
    profile: str = Field(default="local", description="Name of a file in infra/profiles/.")
    environment: Literal["dev", "staging", "prod"] = Field(default="dev", description="Which environment this is.")
    actor: str | None = Field(default=None, description="Who acts, for ledger and audit; default: the login name.")
    state_url: str | None = Field(default=None, description="SQLAlchemy URL of the state database; default SQLite in .zebraops/.")
    four_eyes: bool = Field(default=False, description="Whether a version's code must be approved by another than its trainer.")
    object_store_url: str | None = Field(default=None, description="file:// or s3:// URL of the object store; default .zebraops/objects.")
    s3_endpoint_url: str | None = Field(default=None, description="Endpoint of an S3 server that is not AWS.")
    mlflow_tracking_uri: str | None = Field(default=None, description="MLflow tracking and registry; default SQLite in .zebraops/.")
    mlflow_ui_url: str | None = Field(default=None, description="Where people open MLflow; used for links only.")
    dagster_ui_url: str = Field(default="http://127.0.0.1:3000", description="Where people open Dagster; used for links only.")
    serving_host: str = Field(default="127.0.0.1", description="Address the server binds.")
    serving_port: int = Field(default=8080, ge=0, le=65535, description="Port the server binds; 0 picks a free one.")
    serving_grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port for Open Inference over gRPC; 0, with one worker, picks a free one; default none."
    )
    serving_token: SecretStr | None = Field(default=None, description="A bearer token with every scope, beside those of `mlops token`.")
    serving_tokens_file: Path | None = Field(default=None, description="File of `mlops token`; default .zebraops/serving/tokens.json.")
    serving_allowed_hosts: str = Field(
        default="",
        description="Comma-separated Host headers to accept, such as ml.example.com or *.example.com; default any but on loopback.",
    )
    serving_rate_per_s: float = Field(
        default=0, ge=0, description="Requests a second of one token, or address without one; 0 for no limit."
    )
    serving_access_log: str | None = Field(default=None, description="File for one JSON line a request, '-' for stderr; default none.")
    serving_root: Literal["warn", "refuse"] = Field(default="warn", description="What to do when root is to listen beyond loopback.")
    serving_oidc_issuer: str | None = Field(default=None, description="Accept this issuer's JWTs: their `iss`.")
    serving_oidc_audience: str | None = Field(default=None, description="What such a JWT's `aud` must name; required with an issuer.")
    serving_oidc_jwks: str | None = Field(
        default=None, description="The issuer's keys: a file, or an https:// URL; required with an issuer."
    )
    serving_oidc_algorithms: str = Field(default="RS256,ES256,EdDSA", description="Comma-separated signatures to accept on a JWT.")
    serving_oidc_scope_claim: str = Field(default="scope", description="Claim that grants zebra:predict, zebra:read and zebra:operate.")
    serving_otlp_endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="Send spans of requests there by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; default none.",
    )
    serving_trace_share: float = Field(default=0.01, ge=0, le=1, description="Requests to trace, of those whose caller does not say.")
    serving_hash_key: SecretStr | None = Field(
        default=None, min_length=16, description="Keys the hashes of `serving.hashed` columns; default a key file of this project."
    )
    serving_workers: int = Field(default=1, ge=1, le=64, description="Processes that answer on the server's port.")
    serving_threads: int = Field(default=2, ge=1, le=64, description="Large or slow requests that one model works on at once.")
    serving_queue: int = Field(default=256, ge=1, description="Requests that may wait for one model; one more is answered 503.")
    serving_memory_bytes: int | None = Field(
        default=None, gt=0, description="Most bytes of models that one process keeps in memory; default no limit."
    )
    serving_explain_s: float = Field(default=2.0, gt=0, le=60, description="Most seconds to explain the rows of one request.")
    serving_explain_memory_bytes: int = Field(
        default=2 << 30, ge=512 << 20, description="Most bytes that the process which explains may allocate (Linux)."
    )
    reload_interval_s: float = Field(default=1.0, gt=0, description="How often the server asks the ledger for a new version.")
    dagster_home: Path | None = Field(default=None, description="Dagster's instance folder; default <project>/dagster_home.")
    watch_sources: bool = Field(default=True, description="Ingest when a source's revision changes, between the scheduled ingests.")
    sensor_interval_s: int = Field(default=30, ge=1, description="Least seconds between two ticks of a Dagster sensor.")
    auto_promote_alias: str = Field(default="prod", description="Alias that the promotion asset moves when the gate is open.")
    gate_closed_fails: bool = Field(default=False, description="CI asks for it: a closed gate fails the run with its reasons.")
    ingest_engine: str = Field(default="threads", description="What works on a dataset's row blocks: threads, dask, or your own.")
    dask_scheduler: str | None = Field(default=None, description="Address of a Dask scheduler; default two workers on this machine.")
    pushgateway_url: str | None = Field(default=None, description="Prometheus Pushgateway for batch figures such as drift scores.")
    http_allow_private: str = Field(
        default="", description="Comma-separated host:port that recipes may read over HTTP though private or at another port."
    )

    @property
    def home(self) -> Path:
        """`<project>/.zebraops`: everything the embedded defaults write."""
        return self.project_dir / ".zebraops"

    @property
    def models_dir(self) -> Path:
        return self.project_dir / "models"

    @property
    def manifests_dir(self) -> Path:
        return self.project_dir / "manifests"

    @property
    def tokens_file(self) -> Path:
        """Where the server's tokens are kept."""
        return self.serving_tokens_file or self.home / "serving" / "tokens.json"

    @cached_property
    def state(self) -> str:
        """SQLAlchemy URL of the state database."""
        return self.state_url or f"sqlite:///{self.home / 'state.db'}"

    @cached_property
    def store(self) -> str:
        """URL of the object store."""
        return self.object_store_url or (self.home / "objects").as_uri()

    @cached_property
    def tracking(self) -> str:
        """MLflow tracking URI."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @cached_property
    def artifacts(self) -> str:
        """Where MLflow keeps artifacts when its store is embedded; a tracking server decides for itself."""
        return (self.home / "mlartifacts").as_uri()

    @cached_property
    def instance_home(self) -> Path:
        """Dagster's instance folder, absolute: the setting, else `DAGSTER_HOME`, else `<project>/dagster_home`."""
        named = self.dagster_home or os.environ.get("DAGSTER_HOME") or self.project_dir / "dagster_home"
        return Path(named).resolve()

    @cached_property
    def secrets(self) -> dict[str, str]:
        """What `${NAME}` in a recipe may stand for: `<project>/.env`, overlaid with the environment. Never printed or stored."""
        from dotenv import dotenv_values

        written = {name: value for name, value in dotenv_values(self.project_dir / ".env").items() if value is not None}
        # What connectors ask for by name; a profile may say it, too.
        said = {
            "ZEBRA_HTTP_ALLOW_PRIVATE": self.http_allow_private,
            "ZEBRA_STATE_URL": self.state,
            "ZEBRA_S3_ENDPOINT_URL": self.s3_endpoint_url or "",
        }
        return {**written, **os.environ, **said}

    @cached_property
    def who(self) -> str:
        """The acting identity as the ledger records it."""
        if self.actor:
            return self.actor
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's uid without a name
            return "unknown"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # init carries what `load_settings` read from the profile, so it stands last.
        return env_settings, dotenv_settings, init_settings


def find_project(start: Path | None = None) -> Path:
    """The nearest folder, from ``start`` upwards, that holds both models/ and manifests/; else ``start`` itself."""
    here = (start or Path.cwd()).resolve()
    return next((p for p in (here, *here.parents) if (p / "models").is_dir() and (p / "manifests").is_dir()), here)


def load_settings(project: Path | None = None, profile: str | None = None) -> Settings:
    """Read the settings of a project.

    Args:
        project: its folder; default `ZEBRA_PROJECT_DIR`, else found from the working directory upwards.
        profile: default `ZEBRA_PROFILE`, else 'local'.

    Raises:
        UsageError: unknown profile, or a value that does not fit.
        SpecInvalid: a profile with unknown fields.
    """
    named = os.environ.get("ZEBRA_PROJECT_DIR")
    root = (project or (Path(named) if named else find_project())).resolve()
    chosen = profile or os.environ.get("ZEBRA_PROFILE") or "local"
    values = {**_profile(root, chosen), "project_dir": root, "profile": chosen}
    try:
        settings = Settings(_env_file=root / ".env", **values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        raise UsageError(f"Setting '{field}': {first['msg']}.", fix=f"set ZEBRA_{field.upper()} or mend {root / '.env'}") from error
    # What the caller names beats the environment: --project and --profile are said here and now.
    return settings.model_copy(update={"project_dir": root, "profile": chosen})


def _profile(root: Path, name: str) -> dict[str, Any]:
    folder = root / "infra" / "profiles"
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    if name == "local" and name not in known:
        return {}
    if name not in known:
        raise UsageError(
            f"Unknown profile '{name}'.{did_you_mean(name, known)} Known: {', '.join(known) or 'local'}.",
            fix=f"--profile {closest(name, known) or 'local'}, or write {folder / 'NAME.yaml'}",
        )
    data, lines = load(folder / f"{name}.yaml")
    for field in data or {}:
        if field not in Settings.model_fields:
            raise SpecInvalid(
                f"{folder / name}.yaml:{lines[(field,)]}: unknown setting '{field}'.{did_you_mean(field, list(Settings.model_fields))}",
                fix="`mlops doctor` lists the settings",
            )
    return data or {}
