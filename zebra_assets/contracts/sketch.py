"""What a server remembers of the predictions it made: a few kilobytes per column, whatever their number.

Numbers are kept as a KLL quantile sketch of k = 200 (rank error 1.33 % at 99 % confidence, single-sided; Karnin, Lang and
Liberty 2016), everything else as a frequent-items sketch of up to 768 values (exact while there are no more; Misra and
Gries 1982), both in the portable binary form of Apache DataSketches. They merge: windows of hours, of servers and of
machines add up to what one server would have kept of all of them. Filled by `zebra_serving/sketches`.
"""

from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from zebra_assets.contracts.names import ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun


class ColumnSketch(Noun):
    """One column of a window.

    Attributes:
        rows: cells seen, missing ones included.
        nulls: cells that were null or no number.
        mean, m2: of the finite numbers, and the sum of their squared distances from it (Chan, Golub and LeVeque 1979).
        sketch: DataSketches' `kll_doubles_sketch` or `frequent_strings_sketch`, base64; empty where every cell is null.
    """

    kind: Literal["numeric", "categorical"]
    rows: int = Field(ge=0)
    nulls: int = Field(ge=0)
    mean: float | None = None
    m2: float | None = None
    sketch: str = ""


class WindowSketch(Noun):
    """The predictions of one version by one server in one hour.

    Attributes:
        id: names model, version, hour and server; written again as the hour goes on.
        rows: predictions made.
        sketched: how many of them the columns cover, a random part where more came than the budget allowed.
        columns: the recorded features by name.
        prediction: scores of a binary model, else its answers.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{8,160}$")
    model: Name
    version: Version
    manifest_id: ManifestId
    window_start: datetime
    window_end: datetime
    rows: int = Field(ge=0)
    sketched: int = Field(ge=0)
    columns: dict[str, ColumnSketch]
    prediction: ColumnSketch


class Sketches(Protocol):
    """Where windows rest; a port. Every method may raise `Unavailable`."""

    def save(self, window: WindowSketch) -> None:
        """Insert, or replace the window of the same id."""
        ...

    def windows(self, model: str, *, version: str | None = None, since: datetime | None = None) -> list[WindowSketch]:
        """A model's windows, or those of one version that began at ``since`` or later; oldest first."""
        ...

    def newest(self, model: str, version: str, *, rows: int) -> list[WindowSketch]:
        """The newest whole hours of a version that together hold ``rows`` predictions, or all there are; oldest first."""
        ...

    def made(self, model: str, version: str) -> int:
        """How many predictions a version's windows hold."""
        ...
