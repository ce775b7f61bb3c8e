"""What can be found out about manifests at rest: whether one still holds, and how two differ. Written by stations, shown by the CLI."""

from typing import Literal

from pydantic import Field

from zebra_assets.contracts.names import Digest, ManifestId
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.verdicts import DriftBin


class BlobCheck(Noun):
    """One artifact: the digest the manifest names, and the one of the bytes the store gave; None where it has none."""

    split: str
    key: str
    uri: str
    digest: Digest
    found: Digest | None

    @property
    def ok(self) -> bool:
        """Whether the store holds the very bytes."""
        return self.found == self.digest


class Verification(Noun):
    """Whether a manifest still says the truth about the store.

    `content_found` is `hashes.content` computed anew from the rows themselves; None where that was not done, and `reason`
    says why.
    """

    manifest_id: ManifestId
    content: Digest
    content_found: Digest | None
    reason: str = ""
    blobs: list[BlobCheck]
    ok: bool


class ColumnDiff(Noun):
    """One column of two manifests. `cells` counts changed cells in rows that both have; None where that cannot be told.

    `psi` and `js` are distances between the rows of the two train splits, counted over the bins of the older summary; None
    where there is none, or the values are hidden. `shifted` is whether psi net of what chance alone gives is above its
    threshold. `bins` are the shares behind it; none for sensitive columns.
    """

    name: str
    before: str | None = Field(description="Dtype, with '?' where nulls are allowed; None where the column is new.")
    after: str | None = Field(description="The same; None where the column is gone.")
    cells: int | None = None
    nulls_before: float | None = None
    nulls_after: float | None = None
    psi: float | None = None
    js: float | None = None
    shifted: bool = False
    bins: list[DriftBin] = Field(default_factory=list)


class Definition(Noun):
    """Something said about the rows that was said otherwise before: key, label, splits."""

    what: Literal["key", "label", "splits"]
    before: str
    after: str


class RowExample(Noun):
    """One differing row: its key (without one, its first cells), and for a changed row what each cell was and is."""

    kind: Literal["added", "removed", "changed"]
    key: dict[str, str]
    cells: dict[str, tuple[str, str]] = Field(default_factory=dict)


class ManifestDiff(Noun):
    """What changed from one manifest to another. By row, a changed row is one removed and one added."""

    before: ManifestId
    after: ManifestId
    by: Literal["key", "row"]
    rows_before: int
    rows_after: int
    splits_before: dict[str, int]
    splits_after: dict[str, int]
    added: int
    removed: int
    changed: int
    unchanged: int
    moved: int | None = Field(description="Rows of both that stand in another split now; None by row.")
    definitions: list[Definition]
    columns: list[ColumnDiff]
    examples: list[RowExample] = Field(description="Up to five of each kind, sensitive values masked.")

    @property
    def same(self) -> bool:
        """Whether the two hold the same rows under the same definitions."""
        redefined = self.definitions or any(c.before != c.after for c in self.columns)
        return not (self.added or self.removed or self.changed or self.moved or redefined)
