"""`models/<name>/model.yaml`: what a team declares about one model.

The file stays backward compatible by `schema_version`; docs/schemas/model.schema.json is generated from these classes.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.names import Experiment, Filename, Name
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.yaml_source import parse
from zebra_assets.errors import SpecInvalid

DIRECTIONS = Literal["maximize", "minimize"]


class Datasets(Noun):
    """Which dataset feeds each role. Roles that name one dataset read the split of the role's name from it."""

    train: Name
    valid: Name
    test: Name | None = None

    def roles(self) -> dict[str, str]:
        """Role name to dataset name, in the order train, valid, test."""
        return {role: name for role in ("train", "valid", "test") if (name := getattr(self, role)) is not None}

    def names(self) -> list[str]:
        """The distinct dataset names, in role order."""
        return list(dict.fromkeys(self.roles().values()))


class Resources(Noun):
    """What the training process needs."""

    accelerator: Literal["cpu", "gpu"] = "cpu"
    gpu_count: int | None = Field(default=None, ge=1, le=64)
    timeout_s: int = Field(default=3600, ge=1, description="Seconds after which the whole process group is killed.")

    @model_validator(mode="after")
    def _gpus_need_an_accelerator(self) -> Self:
        if self.gpu_count and self.accelerator == "cpu":
            raise ValueError("gpu_count is set but accelerator is cpu; set accelerator: gpu or drop gpu_count")
        return self


class Tracking(Noun):
    """Where runs are logged."""

    experiment_name: Experiment


class MetricSpec(Noun):
    """A metric that is reported and, with a threshold, gates promotion. The first one listed is the primary metric."""

    name: Name
    direction: DIRECTIONS
    threshold: float | None = Field(default=None, description="The worst value that still passes the gate.")


class PromotionSpec(Noun):
    """Where an approved version goes."""

    registry: Literal["mlflow"] = "mlflow"
    alias_prod: Name = "prod"
    alias_staging: Name = "staging"
    tolerance: float = Field(default=0.0, ge=0, description="How much worse than prod the primary metric may be on the same rows.")

    @field_validator("alias_prod", "alias_staging")
    @classmethod
    def _alias_is_not_reserved(cls, value: str) -> str:
        if value == "latest" or (value.startswith("v") and value[1:].isdigit()):
            raise ValueError("is reserved by MLflow; choose another alias")
        return value

    @model_validator(mode="after")
    def _aliases_differ(self) -> Self:
        if self.alias_prod == self.alias_staging:
            raise ValueError("alias_prod and alias_staging must differ")
        return self


class Hyperparams(Noun):
    """Defaults handed to the training script, and the grid a sweep walks."""

    params: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)


class Env(Noun):
    """The environment the script expects."""

    python_version: str | None = Field(default=None, pattern=r"^3\.\d{1,2}$")
    pip_requirements: Filename | list[str] | None = Field(default=None, description="A file beside model.yaml, or requirement lines.")


class DriftSpec(Noun):
    """When a window of predictions counts as drifted, and how often that may ask for fresh data."""

    metric: Literal["psi", "js", "ks"] = "psi"
    threshold: float = Field(default=0.2, gt=0, description="A column above this has drifted.")
    share: float = Field(default=0.3, gt=0, le=1, description="Share of drifted feature columns that makes the window drifted.")
    min_rows: int = Field(default=200, ge=20, description="Fewer events than this: state unknown, never 'no drift'.")
    window_rows: int = Field(default=5000, ge=20, description="The newest events that make a window.")
    cooldown_minutes: float = Field(default=60, ge=0)
    budget_per_week: int = Field(default=7, ge=0)


class ServingSpec(Noun):
    """How predictions are recorded: each in its version's sketches, a sample as events of their own."""

    sample_rate: float = Field(default=1.0, ge=0, le=1, description="Share of predictions recorded as events.")
    events_per_second: float | None = Field(
        default=100, gt=0, description="Most events recorded a second, over and above the first 5,000; null for no limit."
    )
    fields: list[str] | None = Field(default=None, description="Columns recorded; default every one that is not sensitive.")
    hashed: list[str] = Field(
        default_factory=list, description="Columns recorded as keyed hashes: equal values stay equal, and none is kept itself."
    )

    @model_validator(mode="after")
    def _plain_or_hashed(self) -> Self:
        if both := sorted({*self.hashed} & {*(self.fields or ())}):
            raise ValueError(f"{', '.join(both)}: in fields and in hashed; keep it in one of them")
        return self


class Sensitive(Noun):
    """Columns that describe people: kept out of events, reported by group."""

    attributes: list[str] = Field(default_factory=list)


class ModelSpec(Noun):
    """One model as its team declared it."""

    schema_version: Literal[1] = 1
    name: Name
    type: Literal["python", "notebook", "module"]
    entrypoint: Filename
    datasets: Datasets
    resources: Resources = Field(default_factory=Resources)
    tracking: Tracking
    metrics: list[MetricSpec] = Field(min_length=1)
    promotion: PromotionSpec = Field(default_factory=PromotionSpec)
    hyperparams: Hyperparams = Field(default_factory=Hyperparams)
    env: Env = Field(default_factory=Env)
    notes: str = ""
    owner: str | None = Field(default=None, pattern=r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")
    risk: Literal["low", "medium", "high", "critical"] = "low"
    drift: DriftSpec = Field(default_factory=DriftSpec)
    serving: ServingSpec = Field(default_factory=ServingSpec)
    sensitive: Sensitive = Field(default_factory=Sensitive)

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Self:
        suffix = {"python": ".py", "notebook": ".ipynb", "module": ".py"}[self.type]
        if not self.entrypoint.endswith(suffix):
            raise ValueError(f"entrypoint {self.entrypoint!r} must end in {suffix} for type {self.type}")
        # A keyed hash of one of three values is guessed by how often it comes.
        if open_ := sorted({*self.serving.hashed} & {*self.sensitive.attributes}):
            raise ValueError(f"serving.hashed: {', '.join(open_)}: sensitive columns are not recorded, not even hashed")
        if len({m.name for m in self.metrics}) != len(self.metrics):
            raise ValueError("metrics: a name stands twice")
        return self

    @property
    def primary(self) -> MetricSpec:
        """The first metric: the one a candidate is compared to prod by."""
        return self.metrics[0]

    @property
    def digest(self) -> str:
        """Digest of everything declared, except `notes`, which explain and change nothing."""
        return digest_of(self.model_dump(mode="json", exclude={"notes"}))


def load_model_spec(folder: Path) -> ModelSpec:
    """Read ``folder/model.yaml``.

    Raises:
        NotFound, SpecInvalid: see `yaml_source.parse`; also when the name differs from the folder's.
    """
    spec = parse(ModelSpec, folder / "model.yaml")
    if spec.name != folder.name:
        raise SpecInvalid(f"{folder / 'model.yaml'}: name is '{spec.name}' but the folder is '{folder.name}'.", fix=f"name: {folder.name}")
    return spec
