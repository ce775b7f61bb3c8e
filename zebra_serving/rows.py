"""Checked rows on their way from a door to a model: by row as JSON brings a few, by column as bulk brings many.

`Columns` are `Rows` that never become tuples unless somebody asks for them: a form's encoder, the sketches and the sample of events
take what they need column by column. Made by `schema` and `bulk`; knows no protocol and checks nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zebra_serving.problems import InputInvalid

if TYPE_CHECKING:
    import pyarrow as pa  # 0.2 s and 44 MB that only the plain form and Arrow bodies need

    from zebra_serving.schema import RowSchema


# numpy keeps up to seven freed blocks of every size below 1 KiB for good.
_UNKEPT = 1024


def room(count: int, dtype: Any = np.float64) -> np.ndarray:
    """``count`` cells to be written, in a block that numpy gives back: rows come in all lengths, and those of each length would be kept."""
    return np.empty(max(count, _UNKEPT // np.dtype(dtype).itemsize), dtype)[:count]


class Column(Protocol):
    """The cells of one column; None where a value is missing."""

    def __len__(self) -> int: ...

    def floats(self) -> np.ndarray:
        """As float64, NaN where missing; the caller may write to it."""
        ...

    def looked_up(self, table: Mapping[Any, Any], dtype: Any) -> np.ndarray:
        """What ``table`` says to each cell. Raises whatever the table raises for a value it refuses."""
        ...

    def counts(self) -> Mapping[Any, int]:
        """How often each value occurs."""
        ...

    def at(self, places: Sequence[int]) -> list[Any]:
        """Some cells as Python values."""
        ...

    def part(self, step: slice) -> "Column":
        """Some cells as a column that does not keep the others in memory."""
        ...

    def arrow(self, kind: str) -> "pa.Array":
        """As an Arrow array of the type called ``kind``. Raises `InputInvalid` for a cell that such an array cannot hold."""
        ...


class Listed:
    """Cells that are Python values already, as JSON leaves them."""

    def __init__(self, cells: Sequence[Any]) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def floats(self) -> np.ndarray:
        cells = room(len(self._cells))
        cells[:] = self._cells
        return cells

    def looked_up(self, table: Mapping[Any, Any], dtype: Any) -> np.ndarray:
        return np.fromiter(map(table.__getitem__, self._cells), dtype, len(self._cells))

    def counts(self) -> Mapping[Any, int]:
        return Counter(self._cells)

    def at(self, places: Sequence[int]) -> list[Any]:
        return [self._cells[i] for i in places]

    def part(self, step: slice) -> "Listed":
        return Listed(self._cells[step])

    def arrow(self, kind: str) -> "pa.Array":
        import pyarrow as pa

        try:
            return pa.array(self._cells, pa.type_for_alias(kind))
        except pa.ArrowTypeError as error:  # MLflow's door lets anything pass for text
            raise InputInvalid([], message=f"The model takes values of one kind only: {error}.") from error


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked rows: ``values[i][j]`` is column j of row i, in the schema's order; None where an optional column was left out.

    After the model's `RowSchema.width` columns come the dataset's keys, as far as the schema knows any.
    """

    schema: "RowSchema"
    values: list[tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.values)

    def columns(self) -> Sequence[Column]:
        """The same cells by column."""
        return [Listed(cells) for cells in zip(*self.values, strict=True)]

    def at(self, places: Sequence[int]) -> list[tuple[Any, ...]]:
        """Some of the rows."""
        return [self.values[i] for i in places]

    def part(self, step: slice) -> "Rows":
        """Some of the rows, without keeping the others in memory."""
        return Rows(self.schema, self.values[step])

    def table(self) -> "pa.Table":
        """The rows as an Arrow table with the model's columns and types. Raises `InputInvalid` for what `Column.arrow` refuses."""
        import pyarrow as pa

        arrays = [column.arrow(kind) for column, kind in zip(self.columns(), self.schema.arrow, strict=False)]
        return pa.table(arrays, names=self.schema.names)


class Columns(Rows):
    """Rows that came by column.

    Args:
        cells: the schema's `recorded` columns, all of ``count`` cells.
    """

    _cells: Sequence[Column]
    _count: int

    def __init__(self, schema: "RowSchema", cells: Sequence[Column], count: int) -> None:
        object.__setattr__(self, "schema", schema)
        object.__setattr__(self, "_cells", cells)
        object.__setattr__(self, "_count", count)

    @cached_property
    def values(self) -> list[tuple[Any, ...]]:
        """Made when asked for, which the bulk path never does."""
        return self.at(range(self._count))

    def __len__(self) -> int:
        return self._count

    def columns(self) -> Sequence[Column]:
        return self._cells

    def at(self, places: Sequence[int]) -> list[tuple[Any, ...]]:
        return list(zip(*(column.at(places) for column in self._cells), strict=True))

    def part(self, step: slice) -> "Columns":
        return Columns(self.schema, [column.part(step) for column in self._cells], len(range(*step.indices(self._count))))
