"""From a source's batches to the table that a recipe declares: columns in order, dtypes as said, rows in canonical order.

What does not cast is collected over all batches and told in one error. Called by `ingest`; how one column casts is in
`dtypes`, and whether the values are allowed in `validate`.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.dtypes import ARROW, to_dtype
from zebra_assets.datasets.misfits import misfits
from zebra_assets.errors import DataInvalid

EXAMPLES = 5
MASK = "***"


def schema_of(spec: DatasetSpec) -> pa.Schema:
    """The Arrow schema of a recipe's columns, in its order."""
    return pa.schema([pa.field(name, ARROW[c.dtype], nullable=c.nullable) for name, c in spec.columns.items()])


@dataclass
class _Wrong:
    """What was wrong with one column so far."""

    count: int = 0
    exact: bool = True
    examples: list[str] = field(default_factory=list)


class Caster:
    """Casts batches to the declared dtypes, and remembers what did not fit, so that one error can tell it all."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.rows = 0
        self._schema = pa.schema([f.with_nullable(True) for f in schema_of(spec)])
        self._wrong: dict[str, _Wrong] = {}
        self._found: pa.Schema | None = None
        self._told: tuple[list[int], list[int]] = ([], [])
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)  # Arrow's casts release the GIL

    def cast(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The declared columns of ``batch``, in declared order and dtype; all null where a cell does not fit.

        A column that the batch lacks is null throughout: connectors have already refused missing columns.
        """
        places, differ = self._plan(batch.schema)
        columns = [
            batch.column(at) if at >= 0 else pa.nulls(batch.num_rows, kind) for at, kind in zip(places, self._schema.types, strict=True)
        ]
        # Side by side only where there is work: to hand 15 columns to threads costs 0.3 ms a batch, and 1 GB has a thousand.
        spread = self._pool.map if len(differ) > 1 else map
        for i, column in zip(differ, spread(lambda i: self._cast(self._schema.names[i], columns[i]), differ), strict=True):
            columns[i] = column
        self.rows += batch.num_rows
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _plan(self, found: pa.Schema) -> tuple[list[int], list[int]]:
        """Where each declared column stands, -1 for nowhere, and which of them must be cast; told once, as batches are alike."""
        if self._found is None or not self._found.equals(found):
            places = [found.get_field_index(name) for name in self._schema.names]
            differ = [i for i, at in enumerate(places) if at >= 0 and found.field(at).type != self._schema.field(i).type]
            self._found, self._told = found, (places, differ)
        return self._told

    def finish(self) -> None:
        """Raise `DataInvalid` if any cell did not fit: column, declared dtype, count and up to five examples each."""
        self._pool.shutdown()
        if not self._wrong:
            return
        lines = [
            f"column '{name}' is declared {self.spec.columns[name].dtype}, but {'' if w.exact else 'at least '}{w.count:,} of "
            f"{self.rows:,} rows are not: "
            f"{', '.join(w.examples)}"
            for name, w in sorted(self._wrong.items(), key=lambda item: list(self.spec.columns).index(item[0]))
        ]
        raise DataInvalid(
            f"Dataset '{self.spec.name}': " + "\n  ".join(["wrong dtypes:", *lines]),
            fix=f"correct the source, or the dtype in manifests/{self.spec.name}/dataset.yaml",
        )

    def _cast(self, name: str, values: pa.Array) -> pa.Array:
        dtype = self.spec.columns[name].dtype
        try:
            return to_dtype(values, dtype)
        except pa.ArrowNotImplementedError:  # the whole type is wrong, whatever the cells say
            bad, exact = np.flatnonzero(np.asarray(values.is_valid())), True
        except pa.ArrowInvalid:
            bad, exact = misfits(values, dtype)
        wrong = self._wrong.setdefault(name, _Wrong())
        wrong.count += len(bad)
        wrong.exact &= exact
        for row in map(int, bad[: EXAMPLES - len(wrong.examples)]):
            shown = MASK if name in self.spec.sensitive else shorten(values[row].as_py())
            wrong.examples.append(f"row {self.rows + row + 1:,} {shown}")
        return pa.nulls(len(values), ARROW[dtype])


def shorten(value: object) -> str:
    """A value as shown in messages: quoted like Python would, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def arrange(table: pa.Table, key: list[str]) -> tuple[pa.Table, pa.Array | None]:
    """Rows in canonical order: stably sorted by the key columns (text by its UTF-8 bytes); without a key, as they came.

    Returns:
        The table, and for each of its rows the position it came from; None where the order did not change.
    """
    if not key or ascending(table, key):
        return table, None
    order = pc.sort_indices(table.select(key), sort_keys=[(name, "ascending") for name in key])
    return table.take(order), order


def ascending(table: pa.Table, key: list[str]) -> bool:
    """Whether each row's key is strictly above the one before; a null is above nothing."""
    before, after = table.slice(0, max(table.num_rows - 1, 0)), table.slice(1)
    above = None
    for name in reversed(key):  # (a, b) < (c, d)  is  a < c or (a = c and b < d)
        less = pc.fill_null(pc.less(before[name], after[name]), False)
        same = pc.fill_null(pc.equal(before[name], after[name]), False)
        above = less if above is None else pc.or_(less, pc.and_(same, above))
    return pc.all(above).as_py() is not False
