"""What was found wrong with rows so far: small, picklable, and merged block by block in order.

Holds counts and up to five examples a rule, never rows; sensitive cells are masked before they get here. Made by `validate`
(rows) and `seen` (repeats), which also say what it means.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.table import EXAMPLES, MASK, shorten


@dataclass
class Broken:
    """How many rows broke a rule, and the first few of them as messages show them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def merge(self, later: "Broken") -> None:
        """Add what was found in rows that come after these."""
        self.count += later.count
        self.examples = [*self.examples, *later.examples][:EXAMPLES]


@dataclass
class Findings:
    """What the rows so far say about a recipe's rules.

    Attributes:
        nulls: missing cells (null or NaN) per column.
        broken: per rule, by its place in `rules.rules_of`, what broke it; rules that held do not stand here.
    """

    rows: int = 0
    nulls: dict[str, int] = field(default_factory=dict)
    broken: dict[int, Broken] = field(default_factory=dict)

    def merge(self, other: "Findings") -> None:
        """Add the findings of the rows that come next."""
        self.rows += other.rows
        for name, count in other.nulls.items():
            self.nulls[name] = self.nulls.get(name, 0) + count
        for place, broken in other.broken.items():
            self.broken.setdefault(place, Broken()).merge(broken)


def row_examples(rows: pa.Table, numbers: Sequence[int], columns: Sequence[str], spec: DatasetSpec) -> list[str]:
    """Rows as messages show them, ``row 7 ('a', ***)``; ``numbers`` are theirs in the source, from 1."""
    return [f"row {number:,} ({cells_of(rows, row, columns, spec)})" for row, number in enumerate(numbers)]


def cells_of(rows: pa.Table, row: int, columns: Sequence[str], spec: DatasetSpec) -> str:
    """One row's cells as messages show them, sensitive ones masked."""
    return ", ".join(MASK if name in spec.sensitive else shorten(rows[name][row].as_py()) for name in columns)
