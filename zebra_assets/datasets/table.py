"""From whatever a source yields to the table a recipe declares: strict casts, and the canonical order of rows.

Six dtypes, each with one Arrow type. A cast never loses anything: 2.5 is no int64, 2**60+1 is no float64, 10:00 is no
date, a number is no string. Called by `ingest`, batch by batch; decides nothing about values, which is `validate`'s job.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import DatasetSpec, Dtype
from zebra_assets.errors import DataInvalid

ARROW: dict[Dtype, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
EXAMPLES = 5
MASK = "***"
# A clock time with a zone behind it; "2026-01-31" alone ends in what looks like one.
_ZONED = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"


def schema_of(spec: DatasetSpec) -> pa.Schema:
    """The Arrow schema of a recipe's columns, in its order."""
    return pa.schema([pa.field(name, ARROW[c.dtype], nullable=c.nullable) for name, c in spec.columns.items()])


@dataclass
class _Wrong:
    """What was wrong with one column so far."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Caster:
    """Casts batches to the declared dtypes, and remembers what did not fit, so that one error can tell it all."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.rows = 0
        self._schema = pa.schema([f.with_nullable(True) for f in schema_of(spec)])
        self._wrong: dict[str, _Wrong] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)  # Arrow's casts release the GIL

    def cast(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The declared columns of ``batch``, in declared order and dtype; cells that do not fit become null.

        A column that the batch lacks is null throughout: connectors have already refused missing columns.
        """
        columns = list(self._pool.map(lambda name: self._column(name, batch), self.spec.columns))
        self.rows += batch.num_rows
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def finish(self) -> None:
        """Raise `DataInvalid` if any cell did not fit: column, declared dtype, count and up to five examples each."""
        self._pool.shutdown()
        if not self._wrong:
            return
        lines = [
            f"column '{name}' is declared {self.spec.columns[name].dtype}, but {w.count:,} of {self.rows:,} rows are not: "
            f"{', '.join(w.examples)}"
            for name, w in sorted(self._wrong.items(), key=lambda item: list(self.spec.columns).index(item[0]))
        ]
        raise DataInvalid(
            f"Dataset '{self.spec.name}': " + "\n  ".join(["wrong dtypes:", *lines]),
            fix=f"correct the source, or the dtype in manifests/{self.spec.name}/dataset.yaml",
        )

    def _column(self, name: str, batch: pa.RecordBatch) -> pa.Array:
        at = batch.schema.get_field_index(name)
        return pa.nulls(batch.num_rows, self._schema.field(name).type) if at < 0 else self._cast(name, batch.column(at))

    def _cast(self, name: str, values: pa.Array) -> pa.Array:
        dtype = self.spec.columns[name].dtype
        try:
            return to_dtype(values, dtype)
        except pa.ArrowNotImplementedError:  # the whole type is wrong, whatever the cells say
            bad = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        except pa.ArrowInvalid:
            bad = _misfits(values, dtype)
        wrong = self._wrong.setdefault(name, _Wrong())
        wrong.count += len(bad)
        for row in bad[: EXAMPLES - len(wrong.examples)]:
            shown = MASK if name in self.spec.sensitive else shorten(values[int(row)].as_py())
            wrong.examples.append(f"row {self.rows + int(row) + 1:,} {shown}")
        fits = np.ones(len(values), dtype=bool)
        fits[bad] = False
        return to_dtype(pc.if_else(pa.array(fits), values, pa.scalar(None, values.type)), dtype)


def shorten(value: object) -> str:
    """A value as shown in messages: quoted like Python would, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def to_dtype(values: pa.Array, dtype: Dtype) -> pa.Array:
    """Cast strictly.

    Text is read as ISO 8601 dates and times, decimal numbers, true/false/1/0; an empty text is null unless the dtype is
    string. Timestamps without a zone are UTC. Numbers convert where the value stays exactly the same.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: a cell does not fit, or the whole type never does.
    """
    target = ARROW[dtype]
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if kind == target:
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), target)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if text:
        return values.cast(pa.string()) if dtype == "string" else _from_text(values.cast(pa.string()), dtype)
    return _from_typed(values, dtype)


def _from_text(values: pa.Array, dtype: Dtype) -> pa.Array:
    empty = pc.equal(values, "")
    if pc.any(empty).as_py():
        values = pc.if_else(empty, pa.scalar(None, pa.string()), values)
    if dtype == "timestamp":
        dated = pc.if_else(pc.equal(pc.utf8_length(values), 10), pc.binary_join_element_wise(values, "00:00", "T"), values)
        values = pc.if_else(pc.match_substring_regex(dated, _ZONED), dated, pc.binary_join_element_wise(dated, "Z", ""))
    elif dtype == "int64" and pc.any(pc.match_substring(values, "x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid("hexadecimal")  # Arrow reads 0x1F as 31
    return values.cast(ARROW[dtype])


def _from_typed(values: pa.Array, dtype: Dtype) -> pa.Array:
    kind, target, types = values.type, ARROW[dtype], pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if (dtype in ("int64", "float64") and number) or (dtype == "timestamp" and types.is_timestamp(kind)):
        return values.cast(target)
    if dtype == "bool" and types.is_integer(kind):  # SQLite and Parquet writers keep truth as 0 and 1
        if not pc.all(pc.is_in(values, pa.array([0, 1, None], kind))).as_py():
            raise pa.ArrowInvalid("neither 0 nor 1")
        return values.cast(target)
    if dtype == "date" and (types.is_date(kind) or types.is_timestamp(kind)):
        dates = values.cast(target)
        if not pc.all(pc.equal(dates.cast(kind), values)).as_py():
            raise pa.ArrowInvalid("a time of day would be lost")
        return dates
    if dtype == "timestamp" and types.is_date(kind):
        return values.cast(pa.timestamp("us")).cast(target)
    raise pa.ArrowNotImplementedError(f"{kind} is not {dtype}")


def _misfits(values: pa.Array, dtype: Dtype) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Positions of the cells that do not cast, by halving the distinct values: exact, and quick while few are wrong."""
    encoded = values if pa.types.is_dictionary(values.type) else pc.dictionary_encode(values)
    distinct = encoded.dictionary
    wrong = [i for i in _halve(distinct, dtype, 0) if distinct[i].is_valid]
    return np.flatnonzero(pc.fill_null(pc.is_in(encoded.indices, pa.array(wrong, encoded.indices.type)), False).to_numpy(False))


def _halve(values: pa.Array, dtype: Dtype, start: int) -> list[int]:
    try:
        to_dtype(values, dtype)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return [start]
        middle = len(values) // 2
        return _halve(values[:middle], dtype, start) + _halve(values[middle:], dtype, start + middle)
    return []


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
