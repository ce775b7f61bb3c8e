"""Summaries of the train split, kept in the manifest: the baseline that drift is measured against without raw rows.

A `Summary` takes rows block by block, is a few kilobytes per column whatever the rows, and merges with others; numeric
columns end as up to 64 quantile bins, others as their 50 most frequent values. Key columns are left out, and so are the
values of sensitive text columns, unless the recipe itself lists them. Called by `ingest`, and by `loop` for the answers of a
model. How one column is counted is in `numbers` and `words`; how exact that is, in docs/summaries.md.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.manifest import ColumnStats
from zebra_assets.datasets.numbers import RETAINED, Numbers
from zebra_assets.datasets.words import Words
from zebra_assets.errors import Refused

BLOCK = 65_536
CELLS = 4_194_304  # kept exactly over all columns together, 32 MB of numbers; with over 32 columns each has its share
_KINDS: dict[str, type[Numbers] | type[Words]] = {"numeric": Numbers, "categorical": Words}
_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("nulls", pa.int64()),
        pa.field("cells", pa.int64()),
        pa.field("hide", pa.bool_()),
        pa.field("numbers", pa.list_(pa.float64())),
        pa.field("texts", pa.list_(pa.string())),
        pa.field("type", pa.string()),
        pa.field("counts", pa.list_(pa.int64())),
        pa.field("mean", pa.float64()),
        pa.field("m2", pa.float64()),
        pa.field("dropped", pa.int64()),
        pa.field("sketch", pa.binary()),
        pa.field("hashes", pa.list_(pa.uint64())),
        pa.field("long_hashes", pa.list_(pa.uint64())),
    ],
    metadata={"format": "zebra-summary-v1"},
)


class Summary:
    """What is known of a dataset's columns after some of its rows.

    One thread at a time: give each its own and merge them. Pickles as its stored bytes: a column of more than 1,024 different
    values travels as a sketch, so what workers return is small, and is exact only where it stayed in one process.

    2.5 M rows of 9 numeric, 4 low-cardinality and 1 high-cardinality text column take 1.1 to 1.5 CPU seconds on two cores that
    others use too, at most 16 MB, and 2 MB after the third block. Most of it releases the GIL (numpy's sort, Arrow's counting by
    value, KLL: another thread waited 0.6 ms while KLL took 79 ms); up to 2,048 calls for frequent text, 0.4 ms a block, hold it.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        names = [name for name in spec.columns if name not in spec.key]
        self._columns = {name: _column(name, spec, max(CELLS // max(len(names), 1), 8192)) for name in names}

    def add(self, block: pa.Table) -> None:
        """Count the rows of a block (canonical dtypes, text dictionary-encoded or not, meant for up to 65,536 rows).

        Other columns of it are left alone.
        """
        for name in self._columns:
            self.add_column(name, block[name])

    def add_column(self, name: str, values: pa.ChunkedArray) -> None:
        """Count a block's rows in one column; different columns may be added to at the same time."""
        self._columns[name].add(_one(values))

    @property
    def names(self) -> list[str]:
        """The columns that are counted."""
        return list(self._columns)

    def merge(self, other: "Summary") -> None:
        """Count all that ``other`` counted; the order of merging changes nothing beyond the documented error.

        Raises:
            Refused: the other summary is of other columns, or of columns of another kind.
        """
        mine, theirs = ({name: column.kind for name, column in s._columns.items()} for s in (self, other))
        if mine != theirs:
            differ = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
            raise Refused(f"Two summaries are not of the same columns: {', '.join(differ)}.", fix="ingest both by one recipe")
        for name, column in self._columns.items():
            column.merge(other._columns[name])  # type: ignore[arg-type] # of one kind, as was just seen

    def columns(self) -> dict[str, ColumnStats]:
        """The summary of each column, as manifests hold it."""
        return {name: column.stats() for name, column in self._columns.items()}

    def to_bytes(self) -> bytes:
        """An Arrow IPC stream, a row per column: the same in any language with Arrow and DataSketches. At most about 100 KB a column."""
        rows = [{"name": name, **column.to_row()} for name, column in self._columns.items()]
        table = pa.Table.from_pydict({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in _SCHEMA}, schema=_SCHEMA)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: the bytes are something else.
        """
        found = cls.__new__(cls)
        try:
            table = pa.ipc.open_stream(raw).read_all()
            if not table.schema.equals(_SCHEMA, check_metadata=True):
                raise ValueError("other columns or another version")
            found._columns = {row["name"]: _KINDS[row["kind"]].from_row(row) for row in table.to_pylist()}
        except (pa.ArrowException, ValueError, KeyError, TypeError, OSError) as error:
            raise Refused(f"These bytes are no stored summary: {error}.", fix="ingest the dataset again") from error
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Summary.from_bytes, (self.to_bytes(),)


def summarise(train: pa.Table, spec: DatasetSpec) -> dict[str, ColumnStats]:
    """Summary per column that is not a key, of a table in memory."""
    columns: Mapping[str, Numbers | Words] = Summary(spec)._columns
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # what takes the time releases the GIL
        return dict(zip(columns, pool.map(lambda name: _over(train[name], columns[name]), columns), strict=True))


def numeric(values: pa.ChunkedArray) -> ColumnStats:
    """The summary of one column of numbers; infinite ones are left out of all but its rows."""
    return _over(values, Numbers())


def categorical(values: pa.ChunkedArray, *, hide: bool = False) -> ColumnStats:
    """The summary of one column of text, bools, dates or times; ``hide`` counts only."""
    return _over(values, Words(hide=hide))


def null_fractions(table: pa.Table) -> dict[str, float]:
    """Share of null or NaN cells per column, 0 to 1."""
    return {name: missing(table[name]) / max(table.num_rows, 1) for name in table.column_names}


def missing(values: pa.ChunkedArray) -> int:
    """How many cells are null or NaN."""
    nan = pc.sum(pc.is_nan(values)).as_py() or 0 if pa.types.is_floating(values.type) else 0
    return int(values.null_count + nan)


def _column(name: str, spec: DatasetSpec, retained: int) -> Numbers | Words:
    column, retained = spec.columns[name], min(retained, RETAINED)
    if column.dtype in ("int64", "float64"):
        return Numbers(retained)
    return Words(retained, hide=name in spec.sensitive and column.dtype == "string" and column.values is None)


def _over(values: pa.ChunkedArray, column: Numbers | Words) -> ColumnStats:
    for start in range(0, len(values), BLOCK):
        column.add(_one(values.slice(start, BLOCK)))
    return column.stats()


def _one(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
