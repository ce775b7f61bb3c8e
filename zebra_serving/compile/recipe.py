"""How checked rows become the matrix that a model's tail reads: words through tables, numbers scaled as in training.

`plan` writes recipes, `Encoder` follows them; a recipe is plain data, so it travels as JSON. An encoder gives bit for bit
what the pipeline's ColumnTransformer gives, or refuses the row as it would.
"""

import math
from operator import itemgetter
from typing import Any, NoReturn

import msgspec
import numpy as np

from zebra_serving.problems import FieldError, InputInvalid
from zebra_serving.rows import Column, Columns, Rows

# Below this many rows plain Python is quicker than an array per column (19 columns, one row: 3 us against 16).
FEW = 16


class Table(msgspec.Struct, frozen=True):
    """What each value of a column becomes: ``blocks[i]`` for ``keys[i]``, ``unknown`` for any other; None is refused."""

    keys: list[str | int | float | bool | None]
    blocks: list[list[float] | None]
    unknown: list[float] | None
    width: int


class Recipe(msgspec.Struct, frozen=True):
    """Matrix = ((fill(gathered) - shift) / scale) * factor + offset, slot by slot.

    Attributes:
        tables: per column, in the model's order; None for a number, an empty table for a column that the model ignores.
        order: gathered slot of each slot of the matrix.
        fill: value of a missing number per slot, None where there is none.
        shift, scale, factor, offset: per slot; 0, 1, 1, 0 change nothing.
        nan, inf: whether the tail takes missing and infinite values; if not, such a row is refused as the pipeline would.
    """

    tables: list[Table | None]
    order: list[int]
    fill: list[float | None]
    shift: list[float]
    scale: list[float]
    factor: list[float]
    offset: list[float]
    nan: bool
    inf: bool


class _Words(dict[Any, Any]):
    """Value -> its slots. A value that was never seen has the unknown's; one that is refused raises KeyError."""

    def __init__(self, table: Table, slots: list[Any], unknown: Any) -> None:
        super().__init__({key: own for key, block, own in zip(table.keys, table.blocks, slots, strict=True) if block is not None})
        self.refused = {key for key, block in zip(table.keys, table.blocks, strict=True) if block is None}
        self.unknown = unknown

    def __missing__(self, value: Any) -> Any:
        if self.unknown is None or value in self.refused:
            raise KeyError(value)
        return self.unknown

    def refuses(self, value: Any) -> bool:
        """Whether asking for a value raises."""
        return value not in self and (self.unknown is None or value in self.refused)


class _Number:
    """A column that is a number: filled and scaled in plain arithmetic, the same IEEE operations that numpy would do."""

    def __init__(self, recipe: Recipe, slot: int) -> None:
        self.slot, self.fill = slot, recipe.fill[slot]
        self.scaling = (recipe.shift[slot], recipe.scale[slot], recipe.factor[slot], recipe.offset[slot])
        self.scaled = self.scaling != (0.0, 1.0, 1.0, 0.0)

    def one(self, value: Any) -> float:
        """The cell of one value."""
        if value is None or value != value:
            value = math.nan if self.fill is None else self.fill
        if not self.scaled:
            return float(value)
        shift, scale, factor, offset = self.scaling
        return (value - shift) / scale * factor + offset

    def all(self, found: np.ndarray) -> np.ndarray:
        """The cells of a column of float64, NaN where missing."""
        if self.fill is not None:
            found = np.where(np.isnan(found), self.fill, found)
        if self.scaled:
            shift, scale, factor, offset = self.scaling
            found = (found - shift) / scale * factor + offset
        return found


class _Text:
    """A column that a table encodes; its blocks are filled and scaled beforehand."""

    def __init__(self, recipe: Recipe, table: Table, slots: list[int]) -> None:
        self.slots = slots
        blocks = np.array([b if b is not None else [np.nan] * table.width for b in [*table.blocks, table.unknown]], dtype=np.float64)
        self.cells = blocks.reshape(len(table.keys) + 1, table.width)
        for k, slot in enumerate(slots):
            self.cells[:, k] = _Number(recipe, slot).all(self.cells[:, k])
        last = None if table.unknown is None else len(table.keys)
        self.rows = _Words(table, list(range(len(table.keys))), last)
        lists = self.cells.tolist()
        self.lists = _Words(table, lists[:-1], None if table.unknown is None else lists[-1])
        self.slots_by_row = np.ascontiguousarray(self.cells.T)
        first = [row[0] for row in lists] if table.width == 1 else []
        self.lone = _Words(table, first[:-1], None if table.unknown is None else first[-1]) if first else None
        # Neighbours are written as a slice, five times as fast as by a list of places.
        together = slots == list(range(slots[0], slots[0] + len(slots))) if slots else False
        self.where: Any = slice(slots[0], slots[0] + len(slots)) if together else slots

    def all(self, column: Column) -> np.ndarray:
        """The cells of a column, (width, rows)."""
        if self.lone is not None:
            return column.looked_up(self.lone, np.float64)
        return self.slots_by_row.take(column.looked_up(self.rows, np.intp), axis=1)


class Encoder:
    """Follows one recipe.

    Args:
        dtype: of the matrix; what does not fit into a float32 counts as infinite.
    """

    def __init__(self, recipe: Recipe, dtype: str) -> None:
        self._dtype, self._width = np.dtype(dtype), len(recipe.order)
        slots = {place: slot for slot, place in enumerate(recipe.order)}
        self._columns: list[_Number | _Text] = []
        at = 0
        for table in recipe.tables:
            width = 1 if table is None else table.width
            places = [slots[place] for place in range(at, at + width)]
            self._columns.append(_Number(recipe, places[0]) if table is None else _Text(recipe, table, places))
            at += width
        sequence = [slot for c in self._columns for slot in ([c.slot] if isinstance(c, _Number) else c.slots)]
        if sorted(sequence) != list(range(self._width)):
            raise ValueError("the recipe does not fill each slot once")
        inverse = sorted(range(self._width), key=sequence.__getitem__)
        self._order = None if inverse == list(range(self._width)) or self._width < 2 else itemgetter(*inverse)
        # Columns that the model ignores are left out here.
        self._used = [
            (j, c.one, {}) if isinstance(c, _Number) else (j, None, c.lists)
            for j, c in enumerate(self._columns) if isinstance(c, _Number) or c.slots
        ]  # fmt: skip
        self._nan, self._inf = recipe.nan, recipe.inf
        self._exact = self._dtype == np.float64

    def matrix(self, rows: Rows) -> np.ndarray:
        """(rows, slots) in the tail's own order.

        Raises:
            InputInvalid: a value that the pipeline refuses, such as a word it never saw, or a missing number it cannot fill.
        """
        try:
            return self._few(rows) if len(rows) < FEW and not isinstance(rows, Columns) else self._many(rows)
        except KeyError:
            self._refuse_words(rows)

    def _few(self, rows: Rows) -> np.ndarray:
        """Row by row in Python: an array per column would cost more than the cells."""
        matrix, total = [], 0.0
        for row in rows.values:
            flat: list[float] = []
            for j, number, words in self._used:
                if number is not None:
                    flat.append(number(row[j]))
                else:
                    flat += words[row[j]]
            matrix.append(flat if self._order is None else self._order(flat))
            total += sum(flat)
        if self._exact and math.isfinite(total):  # so all terms are
            return np.array(matrix, dtype=np.float64)
        with np.errstate(over="ignore"):
            found = np.array(matrix, dtype=self._dtype)
        self._check(rows, found)
        return found

    def _many(self, rows: Rows) -> np.ndarray:
        """Column by column, each written to its place: by slot first, because neighbours in memory are written ten times as fast."""
        slots = np.empty((self._width, len(rows)), dtype=self._dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for column, cells in zip(self._columns, rows.columns(), strict=False):  # keys come after the model's columns
                if isinstance(column, _Number):
                    slots[column.slot] = column.all(cells.floats())
                elif column.slots:
                    slots[column.where] = column.all(cells)
        found = np.ascontiguousarray(slots.T)
        self._check(rows, found)
        return found

    def _check(self, rows: Rows, found: np.ndarray) -> None:
        if (self._nan and self._inf) or np.isfinite(found).all():
            return
        if not self._nan and np.isnan(found).any():
            missing = [
                FieldError(i, name, "a number; this model cannot do without", "null")
                for name, cells, column in zip(rows.schema.names, rows.columns(), self._columns, strict=False)
                if isinstance(column, _Number)
                for i in np.flatnonzero(np.isnan(cells.floats())).tolist()
            ]
            missing.sort(key=lambda error: error.row)
            raise InputInvalid(missing[:100], len(missing), message="The model refuses these values: a number is missing.")
        if not self._inf and np.isinf(found).any():
            raise InputInvalid([], message="The model refuses these values: a number is too large.")

    def _refuse_words(self, rows: Rows) -> NoReturn:
        """Name every value that no table takes."""
        found = []
        for name, cells, column in zip(rows.schema.names, rows.columns(), self._columns, strict=False):
            if isinstance(column, _Number) or not (strange := {value for value in cells.counts() if column.rows.refuses(value)}):
                continue
            known = ", ".join(str(k) for k in list(column.rows)[:10])
            for i, value in enumerate(cells.at(range(len(rows)))):
                if value in strange:
                    found.append(FieldError(i, name, f"one of {known}", "null" if value is None else str(value)[:60]))
        found.sort(key=lambda error: error.row)
        raise InputInvalid(found[:100], len(found), message="The model refuses these values: it never saw them in training.")
