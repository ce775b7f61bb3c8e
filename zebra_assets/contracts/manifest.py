"""The Dataset Manifest: one immutable version of a dataset, named by what its rows say.

The id is ``<dataset>-<first 16 hex of hashes.content>``, and is the Dagster partition key. `hashes.content` covers the
logical content only: columns, label and split definitions, key and rows. `created_at`, `source`, `stats` and `artifacts`
describe and locate, and stay out of it.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from zebra_assets.contracts.dataset_spec import Dtype, LabelSpec, SplitSpec
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.names import Digest, ManifestId, Name
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.pointer import Origin, Pointer

RowsAlgorithm = Literal["zebra-rows-v1", "zebra-rows-v2"]
ROWS_ALGORITHM: RowsAlgorithm = "zebra-rows-v2"
"""How rows that are ingested now are hashed (`datasets.blocks`); manifests of an earlier one stay as they are."""


class Column(Noun):
    """A column as stored."""

    name: str
    dtype: Dtype
    nullable: bool


class Schema(Noun):
    """Columns in stored order, what identifies a row and what is to be predicted."""

    columns: list[Column]
    key: list[str]
    label: LabelSpec | None

    def features(self) -> list[str]:
        """Column names that are neither key nor label, in stored order."""
        apart = {*self.key, self.label.column if self.label else None}
        return [c.name for c in self.columns if c.name not in apart]


class Source(Noun):
    """Where the rows came from, as far as it can be told again. Secrets are references, never values."""

    connector: str
    location: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    query: str | None = Field(default=None, description="The SELECT, where the source is a database.")
    revision: str | None = Field(default=None, description="Digest or version of the source, where it offers one.")
    pointers: list[Pointer] = Field(default_factory=list, description="What DVC or lakeFS call the same data.")
    origin: Origin | None = Field(default=None, description="Who asked for it, when, and the commit of the recipe.")


class Artifact(Noun):
    """The rows that one row block gives to one split, as a Parquet blob; a split's blobs stand in the order of their blocks.

    A dataset that grew at its end keeps the blobs of all full blocks, so only what is new is stored again.
    """

    split: str
    block: int | None = Field(default=None, description="Number of the row block; none in manifests that held a split in one blob.")
    key: str = Field(description="Key in the object store; the store's URL is a setting, so stores can move.")
    uri: str = Field(description="Where it was written.")
    digest: Digest
    bytes: int
    rows: int


class ColumnStats(Noun):
    """A column's summary over the train split: the drift baseline, so that no later step needs the raw rows.

    Numeric columns: `edges` are the bin edges (n+1 ascending quantiles) and `counts` the rows per bin (n). Bins are read
    as numpy.histogram reads them: closed below, open above, the last closed on both sides. So with few distinct values
    each is an edge and the last stands twice ([0, 1, 1] for a 0/1 column): every value is a bin of its own.
    Other columns: `values` are the most frequent values as text and `counts` their rows; `other` is the rest.
    Small columns are exact, large ones are sketched: docs/summaries.md says where and how far off.
    """

    kind: Literal["numeric", "categorical"]
    rows: int
    nulls: int
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    edges: list[float] = Field(default_factory=list)
    values: list[str] = Field(default_factory=list)
    counts: list[int] = Field(default_factory=list)
    other: int = 0
    distinct: int | None = Field(default=None, description="Different values, about; None where values are hidden.")
    error: float = Field(default=0.0, description="Share of the rows by which `counts` may be off, edge to edge; 0 is exact.")


class Sketches(Noun):
    """The summaries in mergeable form, as a blob: what `datasets.summary.Summary.from_bytes` reads."""

    key: str
    digest: Digest
    bytes: int


class Stats(Noun):
    """Counts of the whole and summaries of the train split."""

    rows: int
    rows_by_split: dict[str, int]
    null_fraction: dict[str, float]
    columns: dict[str, ColumnStats]
    sketches: Sketches | None = Field(default=None, description="Where the same summaries rest as sketches that merge with others.")


class Hashes(Noun):
    """`content` names the rows; `blocks` are the row blocks' digests it was combined from, in order."""

    algorithm: RowsAlgorithm = ROWS_ALGORITHM
    content: Digest
    blocks: list[Digest]
    block_rows: int


class Manifest(Noun):
    """One immutable dataset version."""

    schema_version: Literal[1] = 1
    id: ManifestId
    dataset: Name
    created_at: datetime
    source: Source
    columns: Schema = Field(alias="schema")
    splits: SplitSpec
    stats: Stats
    artifacts: list[Artifact]
    hashes: Hashes

    def blobs(self, split: str) -> list[Artifact]:
        """A split's blobs in row order; empty where the manifest has no such split."""
        return [a for a in self.artifacts if a.split == split]

    def blob_keys(self) -> set[str]:
        """Keys of all blobs it names: the rows' and the sketches'."""
        sketches = {self.stats.sketches.key} if self.stats.sketches else set()
        return {a.key for a in self.artifacts} | sketches

    def split_sizes(self) -> list[tuple[str, int, int, int]]:
        """Per split: its name, rows, blobs and bytes."""
        found = [(name, self.blobs(name)) for name in self.split_names()]
        return [(name, sum(b.rows for b in blobs), len(blobs), sum(b.bytes for b in blobs)) for name, blobs in found]

    def split_names(self) -> list[str]:
        """The splits that have rows, in the order train, valid, test."""
        return list(dict.fromkeys(a.split for a in self.artifacts))


class Bundle(Noun):
    """The manifests a model reads when its roles name different datasets; its digest is the partition key."""

    model: Name
    roles: dict[str, ManifestId]

    @property
    def id(self) -> str:
        """``<model>-<16 hex>``: a legal manifest id."""
        return f"{self.model}-{digest_of(self.roles)[:16]}"


def manifest_id(dataset: str, content: str) -> str:
    """The id of rows with digest ``content`` (64 hex) in ``dataset``."""
    return f"{dataset}-{content[:16]}"


def content_of(
    columns: Schema, splits: SplitSpec, *, rows: int, blocks: list[str], block_rows: int, algorithm: RowsAlgorithm = ROWS_ALGORITHM
) -> str:
    """`hashes.content`: the digest of a header that states what the rows mean, and of the digests of the row blocks.

    Computable from a manifest alone, so an edited label, dtype, key or split definition is noticed without the rows.
    """
    return digest_of(
        {
            "algorithm": algorithm,
            "schema": columns.model_dump(mode="json"),
            "splits": splits.model_dump(mode="json"),
            "rows": rows,
            "block_rows": block_rows,
            "blocks": blocks,
        }
    )
