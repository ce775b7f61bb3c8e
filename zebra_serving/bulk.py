"""An Arrow batch checked against a model's columns, and its cells as the forms and the capture take them: no object per row.

The rules are those of `RowSchema.decode`, on columns: the same names, an integer welcome where a float is asked for and never the
other way round, null only where the column is optional. NaN is null, because pandas and Polars write missing numbers so; infinity
has no JSON spelling and is refused here too. Imported with the first Arrow body, never before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from zebra_assets.contracts.model_folder import ModelFeature
from zebra_assets.errors import did_you_mean
from zebra_serving.problems import FieldError, InputInvalid, TooLarge
from zebra_serving.refusals import MAX_ERRORS
from zebra_serving.rows import Column, Columns, Listed
from zebra_serving.schema import RowSchema

# Of one column, written out: a dictionary of one long word could mean any size.
MAX_TEXT_BYTES = 256 * 1024 * 1024
_DAY_S = 86_400
# Years 1 to 9999, which is what a date can be in JSON, and in Python.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_800
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class _Misfit(Exception):
    """A column that does not fit: the rows to blame (none: its type) and what stands there."""

    def __init__(self, got: str, places: Sequence[int] = (), expected: str | None = None) -> None:
        super().__init__(got)
        self.got, self.places, self.expected = got, places, expected


class ArrowColumn:
    """Cells in Arrow's memory; see `rows.Column`."""

    def __init__(self, cells: pa.Array) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def floats(self) -> np.ndarray:
        cells = self._cells
        if pt.is_boolean(cells.type):
            cells = cells.cast(pa.int8())
        return cells.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)

    def looked_up(self, table: Mapping[Any, Any], dtype: Any) -> np.ndarray:
        words, places = self._coded()
        return np.array([table[word] for word in words], dtype=dtype).take(places)

    def counts(self) -> Mapping[Any, int]:
        words, places = self._coded()
        return dict(zip(words, np.bincount(places, minlength=len(words)).tolist(), strict=True))

    def at(self, places: Sequence[int]) -> list[Any]:
        return self._cells.take(pa.array(places, pa.int64())).to_pylist()

    def part(self, step: slice) -> "ArrowColumn":
        taken = self._cells.take(pa.array(np.arange(len(self._cells))[step]))
        # A dictionary would keep the request's whole body in memory.
        return ArrowColumn(taken.dictionary_decode() if pt.is_dictionary(taken.type) else taken)

    def arrow(self, kind: str) -> pa.Array:
        return self._cells.cast(pa.type_for_alias(kind))

    def _coded(self) -> tuple[list[Any], np.ndarray]:
        """The distinct values that occur, and each cell's place among them."""
        cells = self._cells
        if not pt.is_dictionary(cells.type):
            coded = pc.dictionary_encode(cells, null_encoding="encode")
            return coded.dictionary.to_pylist(), coded.indices.to_numpy()
        # Somebody else's dictionary: it may have words that no cell has, twice the same, and null beside it.
        none = len(cells.dictionary)
        places = (cells.indices.cast(pa.int64()).fill_null(none) if cells.null_count else cells.indices).to_numpy().astype(np.intp)
        if none <= len(cells):  # counting beats sorting
            used = np.flatnonzero(np.bincount(places, minlength=none + 1))
            renumbered = np.empty(none + 1, np.intp)
            renumbered[used] = np.arange(len(used))
            places = renumbered[places]
        else:
            used, places = np.unique(places, return_inverse=True)
        words = cells.dictionary.take(pa.array(used[used < none])).to_pylist()
        return words + [None] * (len(used) - len(words)), places


def schema_of(schema: RowSchema, given: pa.Schema) -> None:
    """Check a batch's names before its data is read.

    Raises:
        InputInvalid: a column that is missing, unknown or there twice.
    """
    names = given.names
    known = set(names)
    if len(known) == len(names) and known <= schema.types.keys() and all(f.name in known for f in schema.features if f.required):
        return
    found = [FieldError(0, f.name, schema.expected(f), "nothing") for f in schema.features if f.required and f.name not in known]
    for i, name in enumerate(names):
        if name not in schema.types:
            near = did_you_mean(name, list(schema.types))
            found.append(FieldError(0, name[:60], f"no column of this name.{near}", str(given.types[i])[:60]))
        elif name in names[:i]:
            found.append(FieldError(0, name, "each column once", "a name twice"))
    raise InputInvalid(found[:MAX_ERRORS], len(found))


def columns_of(schema: RowSchema, batch: pa.RecordBatch) -> Columns:
    """The batch as checked rows.

    Raises:
        InputInvalid: types or values that do not fit, every wrong one up to 100.
        TooLarge: a text column that written out is larger than `MAX_TEXT_BYTES`.
    """
    count = batch.num_rows
    given = dict(zip(batch.schema.names, batch.columns, strict=True))
    cells: list[Column] = []
    found: list[FieldError] = []
    total = 0
    for feature in (*schema.features, *schema.keys):
        column = given.get(feature.name)
        try:
            if column is None or pt.is_null(column.type):
                if feature.required:
                    raise _Misfit("null", range(count))
                cells.append(Listed([None] * count))
            else:
                cells.append(_checked(feature, column))
        except _Misfit as misfit:
            expected = misfit.expected or schema.expected(feature)
            found += [FieldError(i, feature.name, expected, misfit.got[:60]) for i in misfit.places[:MAX_ERRORS] or [0]]
            total += max(1, len(misfit.places))
    if found:
        found.sort(key=lambda error: error.row)
        raise InputInvalid(found[:MAX_ERRORS], total)
    return Columns(schema, cells, count)


def _checked(feature: ModelFeature, column: pa.Array) -> ArrowColumn:
    fitted = _FITS[feature.dtype](column)
    if feature.required and fitted.null_count:
        nan = pt.is_floating(column.type) and not column.null_count
        raise _Misfit("NaN" if nan else "null", np.flatnonzero(fitted.is_null().to_numpy(zero_copy_only=False)).tolist())
    return ArrowColumn(fitted)


def _integers(column: pa.Array) -> pa.Array:
    if not pt.is_integer(column.type):
        raise _Misfit(str(column.type))
    if pt.is_uint64(column.type) and len(over := _places(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())))):
        raise _Misfit(str(column[over[0]].as_py()), over)
    return column if pt.is_int64(column.type) else column.cast(pa.int64())


def _floats(column: pa.Array) -> pa.Array:
    if pt.is_integer(column.type):
        return column.cast(pa.float64(), safe=False)
    if not pt.is_floating(column.type):
        raise _Misfit(str(column.type))
    column = column.cast(pa.float64())
    values = column.to_numpy(zero_copy_only=False)
    if np.isfinite(values).all():
        return column
    if np.isinf(values).any():
        raise _Misfit("infinity", np.flatnonzero(np.isinf(values)).tolist(), "a finite number")
    return pa.array(values, from_pandas=True)


def _texts(column: pa.Array) -> pa.Array:
    kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
    if not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)):
        raise _Misfit(str(column.type))
    if not pt.is_dictionary(column.type):
        return column.cast(_bounded_view(column)) if pt.is_string_view(kind) else column
    words = column.dictionary
    if pt.is_string_view(kind):
        words = words.cast(_bounded_view(words))
    lengths = pc.fill_null(pc.binary_length(words), 0).to_numpy().astype(np.int64)
    places = column.indices.drop_null().to_numpy()
    if int(lengths[places].sum()) > MAX_TEXT_BYTES:
        raise _too_long()
    rebuilt = pa.DictionaryArray.from_arrays(column.indices, words)
    return rebuilt.dictionary_decode() if words.null_count else rebuilt


def _bounded_view(column: pa.Array) -> pa.DataType:
    """The type to write views out as; a view is 16 bytes, the first four its length, and any number may show the same text."""
    lengths = np.frombuffer(column.buffers()[1], np.int32)[4 * column.offset :: 4][: len(column)]
    if int(lengths.astype(np.int64).sum()) > MAX_TEXT_BYTES:
        raise _too_long()
    return pa.string()


def _booleans(column: pa.Array) -> pa.Array:
    if not pt.is_boolean(column.type):
        raise _Misfit(str(column.type))
    return column


def _dates(column: pa.Array) -> pa.Array:
    if not pt.is_date(column.type):
        raise _Misfit(str(column.type))
    day = 1 if pt.is_date32(column.type) else _DAY_S * 1000
    _expect_between(column, _FIRST_S // _DAY_S * day, _LAST_S // _DAY_S * day)
    return column.cast(pa.date32(), safe=False)


def _timestamps(column: pa.Array) -> pa.Array:
    if pt.is_date(column.type):
        return _dates(column).cast(pa.timestamp("us"))
    if not pt.is_timestamp(column.type):
        raise _Misfit(str(column.type))
    unit = _UNITS[column.type.unit]
    _expect_between(column, _FIRST_S * unit, _LAST_S * unit)
    return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.timestamp("us"))


def _expect_between(column: pa.Array, first: int, last: int) -> None:
    """Compare the numbers behind a date; ``last`` is the first that is too late."""
    numbers = column.view(pa.int32() if pt.is_date32(column.type) else pa.int64())
    low, high = max(first, -(2**63)), min(last, 2**63 - 1)
    if over := _places(pc.or_(pc.less(numbers, low), pc.greater_equal(numbers, high))):
        raise _Misfit(f"{numbers[over[0]].as_py()} as {column.type}", over, "a date of the years 1 to 9999")


def _places(where: pa.Array) -> list[int]:
    return np.flatnonzero(where.fill_null(False).to_numpy(zero_copy_only=False)).tolist()


def _too_long() -> TooLarge:
    return TooLarge("A column's text is too long when its dictionary is written out.", fix="send the rows in several requests")


_FITS = {"int64": _integers, "float64": _floats, "string": _texts, "bool": _booleans, "date": _dates, "timestamp": _timestamps}
