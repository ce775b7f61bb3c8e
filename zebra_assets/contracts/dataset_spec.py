"""`manifests/<dataset>/dataset.yaml`: the recipe by which rows become a manifest. Written by people."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from zebra_assets.contracts.distribution_spec import DistributionSpec
from zebra_assets.contracts.names import Name
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.row_rule import Condition, read_rule
from zebra_assets.contracts.yaml_source import parse
from zebra_assets.errors import SpecInvalid

Dtype = Literal["int64", "float64", "string", "bool", "date", "timestamp"]
SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
_DEFAULT_FRACTIONS: dict[SplitName, float] = {"train": 0.7, "valid": 0.15, "test": 0.15}


class SourceSpec(Noun):
    """Where rows come from: a connector's kind and its own options."""

    connector: str = Field(min_length=1, max_length=200)
    path: str | None = Field(default=None, description="File, glob or URL; relative paths start at the project root.")
    query: str | None = Field(default=None, description="One SELECT, for the sql connector.")
    url: str | None = Field(default=None, description="Connection or service URL; a secret is written ${NAME} and read from settings.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Bound query parameters, or the connector's own options.")


class ColumnSpec(Noun):
    """One column's promise."""

    dtype: Dtype
    nullable: bool = False
    unique: bool = False
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    values: list[str | int | bool] | None = Field(default=None, description="The only values allowed.")
    pattern: str | None = Field(default=None, max_length=1000, description="Regular expression (RE2) that a whole text must match.")
    min_length: int | None = Field(default=None, ge=0, description="Of a text, in characters.")
    max_length: int | None = Field(default=None, ge=0, description="Of a text, in characters.")
    description: str = ""

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            import pyarrow as pa  # its RE2 judges, because it will match: linear time, no lookaround, no backreferences
            import pyarrow.compute as pc

            try:  # by itself and anchored: "a)|(b" is a pattern only within parentheses
                for tried in (pattern, anchored(pattern)):
                    pc.match_substring_regex(pa.array([""]), tried)
            except pa.ArrowInvalid as error:
                raise ValueError(f"is no RE2 pattern: {str(error).removeprefix('Invalid regular expression: ')}") from error
        return pattern

    @model_validator(mode="after")
    def _rules_fit_the_dtype(self) -> Self:
        if (self.min is not None or self.max is not None) and self.dtype not in ("int64", "float64"):
            raise ValueError(f"min and max are for numbers; the column is {self.dtype}")
        if self.dtype != "string" and (self.pattern, self.min_length, self.max_length) != (None, None, None):
            raise ValueError(f"pattern, min_length and max_length are for text; the column is {self.dtype}")
        if self.min_length is not None and self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        if self.values is not None and not all(fits(value, self.dtype) for value in self.values):
            raise ValueError(f"`values` must all be {self.dtype} values; quote text, and only text")
        return self


def anchored(pattern: str) -> str:
    """The RE2 expression that matches where ``pattern`` matches a text from its first to its last character."""
    return rf"\A(?:{pattern})\z"


def fits(value: str | int | bool, dtype: Dtype) -> bool:
    """Whether a value written in YAML can stand in a column: text for string, true or false for bool, integers for numbers."""
    kind = {"string": str, "bool": bool, "int64": int, "float64": int}.get(dtype)
    return kind is not None and type(value) is kind


class LabelSpec(Noun):
    """What is to be predicted."""

    column: str
    type: Literal["binary", "multiclass", "regression"]
    positive: str | int | bool | None = None

    @model_validator(mode="after")
    def _binary_needs_a_positive(self) -> Self:
        if self.type == "binary" and self.positive is None:
            raise ValueError("a binary label needs `positive`, the value that counts as 1")
        return self


class SplitSpec(Noun):
    """How rows are divided.

    hash: by the row's key alone, so a row stays when others come or go. group: the same by the columns `groups`, so that a
    group never spans splits. stratified: in hash order within each value of `column`, so that shares are exact per value
    and only rows at a boundary move. explicit: `column` says train, valid or test. time: `cuts` on a date or timestamp.
    """

    strategy: Literal["hash", "stratified", "explicit", "time", "group"] = "hash"
    fractions: dict[SplitName, float] = Field(default_factory=lambda: dict(_DEFAULT_FRACTIONS))
    salt: str = Field(default="", max_length=100)
    column: str | None = Field(default=None, description="For explicit, time and stratified; stratified takes the label by default.")
    groups: list[str] = Field(default_factory=list, description="Columns that name a group, all of whose rows must share a split.")
    cuts: dict[SplitName, str] = Field(default_factory=dict, description="ISO date or time at which valid or test begins; UTC.")

    @field_validator("cuts", mode="before")
    @classmethod
    def _cuts_are_text(cls, cuts: Any) -> Any:
        # YAML reads an unquoted 2026-01-31 as a date
        return {name: cut.isoformat() if isinstance(cut, date) else cut for name, cut in cuts.items()} if isinstance(cuts, dict) else cuts

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> Self:
        if "train" not in self.fractions or any(f <= 0 for f in self.fractions.values()):
            raise ValueError("fractions need a train share and must all be above 0")
        if abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError(f"fractions sum to {sum(self.fractions.values()):g}, not 1")
        return self

    @model_validator(mode="after")
    def _fields_fit_the_strategy(self) -> Self:
        says = self.model_fields_set
        for field, strategies in _SPLIT_FIELDS.items():
            if field in says and getattr(self, field) and self.strategy not in strategies:
                raise ValueError(f"`{field}` is for strategy {' or '.join(strategies)}; the strategy is {self.strategy}")
        for strategy, field in (("explicit", "column"), ("time", "column"), ("time", "cuts"), ("group", "groups")):
            if self.strategy == strategy and not getattr(self, field):
                raise ValueError(f"strategy {strategy} needs `{field}`")
        if "train" in self.cuts:
            raise ValueError("`cuts` say when valid and test begin; train is what lies before")
        moments = [moment(self.cuts[name]) for name in SPLITS if name in self.cuts]
        if sorted(set(moments)) != moments:
            raise ValueError("`cuts` must ascend: train, then valid, then test")
        return self

    @model_serializer(mode="wrap")
    def _only_what_the_strategy_reads(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The content digest covers this, so fields added later must leave no trace where they say nothing.
        said: dict[str, Any] = dump(self)
        for field, strategies in _SPLIT_FIELDS.items():
            if self.strategy not in strategies or (field not in ("fractions", "salt") and not said[field]):
                del said[field]
        return said


_SPLIT_FIELDS: dict[str, tuple[str, ...]] = {
    "fractions": ("hash", "stratified", "group"),
    "salt": ("hash", "stratified", "group"),
    "column": ("stratified", "explicit", "time"),
    "groups": ("group", "explicit", "time"),
    "cuts": ("time",),
}


def moment(text: str) -> datetime:
    """An ISO 8601 date or time as a moment; UTC where it names no zone. `ValueError` when it is neither."""
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


class Expectations(Noun):
    """Bounds on the table as a whole, and on its distance from the manifest before."""

    min_rows: int = Field(default=1, ge=1)
    max_rows: int | None = Field(default=None, ge=1)
    max_null_fraction: float = Field(default=1.0, ge=0, le=1, description="Per nullable column.")
    max_null_fractions: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="For single columns, in place of max_null_fraction."
    )
    distribution: DistributionSpec = Field(default_factory=DistributionSpec)

    def null_limit(self, column: str) -> float:
        """The largest share of nulls that a nullable column may have."""
        return self.max_null_fractions.get(column, self.max_null_fraction)


class DatasetSpec(Noun):
    """One dataset as its team declared it."""

    schema_version: Literal[1] = 1
    name: Name
    description: str = ""
    owner: str | None = Field(default=None, pattern=r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")
    source: SourceSpec
    columns: dict[str, ColumnSpec] = Field(min_length=1, max_length=2000)
    label: LabelSpec | None = None
    key: list[str] = Field(default_factory=list, description="Columns that identify a row; their order is the canonical order of rows.")
    splits: SplitSpec = Field(default_factory=SplitSpec)
    rules: list[str] = Field(
        default_factory=list, max_length=200, description="Conditions across a row's columns, as `start <= end`; null on a side passes."
    )
    expectations: Expectations = Field(default_factory=Expectations)
    sensitive: list[str] = Field(default_factory=list, description="Columns whose values are masked in messages.")
    schedule: str = Field(default="0 */6 * * *", description="Cron line of the regular ingest.")

    @model_validator(mode="after")
    def _named_columns_exist(self) -> Self:
        named: dict[str, Iterable[str]] = {
            "key": self.key,
            "label.column": [self.label.column] if self.label else [],
            "sensitive": self.sensitive,
            "expectations.max_null_fractions": self.expectations.max_null_fractions,
            "expectations.distribution.ignore": self.expectations.distribution.ignore,
        }
        for what, names in named.items():
            for name in names:
                if name not in self.columns:
                    raise ValueError(f"{what} names column {name!r}, which `columns` does not list")
        for name in self.key:
            if self.columns[name].nullable:
                raise ValueError(f"key column {name!r} is nullable; a key must identify every row")
        if self.label and self.columns[self.label.column].nullable:
            raise ValueError(f"label column {self.label.column!r} is nullable; rows without a label cannot be learnt from")
        if self.label and self.label.positive is not None and not fits(self.label.positive, dtype := self.columns[self.label.column].dtype):
            raise ValueError(f"label.positive is {self.label.positive!r}, which cannot stand in a {dtype} column")
        return self

    @model_validator(mode="after")
    def _splits_can_be_told(self) -> Self:
        splits, column = self.splits, self.split_column
        if splits.strategy == "stratified" and column is None:
            raise ValueError("splits.column is missing: strategy stratified needs it, or a label")
        for name in [*([column] if column else []), *splits.groups]:
            if name not in self.columns:
                raise ValueError(f"splits names column {name!r}, which `columns` does not list")
            if self.columns[name].nullable:
                raise ValueError(f"splits names column {name!r}, which is nullable; every row needs a split")
        if column is None:
            return self
        dtype, fitting = self.columns[column].dtype, _SPLIT_DTYPES[splits.strategy]
        if dtype not in fitting:
            raise ValueError(f"splits.column {column!r} is {dtype}; strategy {splits.strategy} needs {' or '.join(fitting)}")
        if dtype == "date" and any(moment(cut).timetz() != time(tzinfo=UTC) for cut in splits.cuts.values()):
            raise ValueError(f"splits.column {column!r} is a date; cut at dates, not at times")
        if splits.strategy == "explicit" and column in self.sensitive:
            raise ValueError(f"splits.column {column!r} holds names of splits and cannot be sensitive")
        return self

    @model_validator(mode="after")
    def _rules_can_be_read(self) -> Self:
        try:
            self.conditions()
        except ValueError as error:
            raise ValueError(f"rules cannot be read: {error}") from error
        return self

    def conditions(self) -> list[Condition]:
        """`rules`, read."""
        dtypes = {name: column.dtype for name, column in self.columns.items()}
        return [read_rule(text, dtypes) for text in self.rules]

    @property
    def split_column(self) -> str | None:
        """The column that the split strategy reads beside the key: the recipe's, or the label for stratified."""
        if self.splits.strategy == "stratified" and self.splits.column is None:
            return self.label.column if self.label else None
        return self.splits.column


_SPLIT_DTYPES: dict[str, tuple[Dtype, ...]] = {
    "stratified": ("string", "bool", "int64"),
    "explicit": ("string",),
    "time": ("date", "timestamp"),
}


def load_dataset_spec(folder: Path) -> DatasetSpec:
    """Read ``folder/dataset.yaml``.

    Raises:
        NotFound, SpecInvalid: see `yaml_source.parse`; also when the name differs from the folder's.
    """
    spec = parse(DatasetSpec, folder / "dataset.yaml")
    if spec.name != folder.name:
        raise SpecInvalid(
            f"{folder / 'dataset.yaml'}: name is '{spec.name}' but the folder is '{folder.name}'.", fix=f"name: {folder.name}"
        )
    return spec
