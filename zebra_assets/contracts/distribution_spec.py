"""`expectations.distribution` of a recipe: how far a manifest may be from the one before. Judged by `datasets.distribution`."""

from typing import Literal

from pydantic import Field

from zebra_assets.contracts.noun import Noun

Answer = Literal["allow", "warn", "fail"]  # warn keeps recipes working that were written before


class DistributionSpec(Noun):
    """How far a manifest may be from the one before, and what happens when it is further.

    Thresholds are sizes of the change, because with a million rows every p-value is tiny; chance is still asked, so that a
    few rows raise no alarm (`datasets.distribution`). Dates and timestamps move on by nature: only their nulls are compared.
    """

    numeric: float = Field(default=0.1, ge=0, le=1, description="Kolmogorov-Smirnov distance: the largest gap of the two.")
    categorical: float = Field(default=0.1, ge=0, le=1, description="Total variation distance: the share of rows that changed category.")
    max_null_increase: float = Field(default=0.05, ge=0, le=1, description="By how much a column's share of nulls may grow.")
    shifts: Answer = Field(default="warn", description="To a change above these three.")
    new_categories: Answer = "warn"
    vanished_categories: Answer = "warn"
    ignore: list[str] = Field(default_factory=list, description="Columns that are expected to change, a counter for one.")
