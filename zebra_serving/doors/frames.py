"""`dataframe_split` and `dataframe_records` as pandas makes a DataFrame of them, with numpy alone: the cells of each column and the
type that pandas infers from all of them. What they are cast to is `casting`'s. Known and left out: a MultiIndex, objects of objects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zebra_serving.problems import TooLarge
from zebra_serving.schema import RowSchema

# Of a table, empty ones too: 8 MiB of JSON cannot spell more, but short rows and records of one key each would be filled up to more.
MAX_CELLS = 4 << 20
_U64, _I64 = 2**64 - 1, 2**63


@dataclass
class Frame:
    """Columns of ``count`` cells.

    Attributes:
        said: the same cells as the body had them.
        typed: whether they have the signature's types already.
    """

    count: int
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    said: dict[str, Sequence[Any]] = field(default_factory=dict)
    typed: bool = False


def inferred(cells: Sequence[Any]) -> np.ndarray:
    """An array of the type that pandas infers: of float64, int64, uint64 or bool, or of the objects themselves.

    A transcript of pandas' `maybe_convert_objects`, whose answer depends on the order: whole numbers after a null are not looked at.

    Raises:
        OverflowError: a whole number beyond any float; pandas gives up as well.
    """
    null = nan = whole = real = truth = large = negative = False
    for cell in cells:
        kind = type(cell)
        if cell is None:
            null = True
        elif kind is float:
            nan, real = nan or cell != cell, real or cell == cell
        elif kind is bool:
            truth = True
        elif kind is int:
            float(cell)
            whole = True
            if not null:
                large, negative = large or cell >= _I64, negative or cell < 0
                if (large and negative) or not -_I64 <= cell <= _U64:
                    return _objects(cells)
        else:
            return _objects(cells)
    if truth:
        return _objects(cells) if null or nan or whole or real else np.array(cells, dtype=bool)
    if real or nan or (null and whole):
        return np.array([math.nan if cell is None else float(cell) for cell in cells])
    if whole:
        return np.array(cells, dtype=np.uint64 if large else np.int64)
    return _objects(cells)


def check_size(rows: int, columns: int) -> None:
    """Raises `TooLarge` for more cells than any body spells."""
    if rows * columns > MAX_CELLS:
        raise TooLarge(f"{rows:,} rows of {columns:,} columns; {MAX_CELLS:,} cells are the limit.", fix="send only the model's columns")


def _objects(cells: Sequence[Any]) -> np.ndarray:
    return np.fromiter(cells, dtype=object, count=len(cells))


def split(schema: RowSchema, said: Any) -> Frame:
    """``pandas.DataFrame(data=…, columns=…, index=…)``. Raises `ValueError` or `TypeError` where pandas does, or MLflow after it."""
    if not isinstance(said, dict) or "data" not in said or said.keys() - {"columns", "data", "index"}:
        raise ValueError("it has `data`, `columns` and perhaps `index`")
    names, data, index = said.get("columns"), said["data"], said.get("index")
    if index is not None and not isinstance(index, list | dict):
        raise ValueError("`index` is a list")
    if names is None and isinstance(data, list):
        return records(_as_long(data, index))
    if not isinstance(names, list | dict):
        raise ValueError("`columns` is a list")
    names = list(names)
    if twice := [name for name in schema.names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is there twice")
    if isinstance(data, dict):
        raise ValueError("`data` is a list of rows")
    if not isinstance(data, list):
        data = [[math.nan if data is None else data] * len(names)] * len(index or ())
    rows = _as_long(_rows(names, data), index)
    return _frame(len(rows), dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ()))


def records(said: Any) -> Frame:
    """``pandas.DataFrame([{…}, …])``; raises as `split`."""
    if not isinstance(said, list) or not all(isinstance(row, dict) for row in said):
        raise ValueError("it is a list of objects")
    names = dict.fromkeys(name for row in said for name in row)
    check_size(len(said), len(names))
    return _frame(len(said), {name: [row.get(name, math.nan) for row in said] for name in names})


def _frame(count: int, cells: dict[Any, Sequence[Any]]) -> Frame:
    return Frame(count, {name: inferred(column) for name, column in cells.items()}, cells)


def _as_long(rows: list[Any], index: list[Any] | dict[str, Any] | None) -> list[Any]:
    if index is not None and len(index) != len(rows):
        raise ValueError(f"`index` names each of {len(rows)} rows")
    return rows


def _rows(names: list[Any], data: list[Any]) -> list[list[Any]]:
    """Rows as wide as the columns are many: short ones end with null, and without any lists there is one column."""
    check_size(len(data), len(names))
    first = data[0] if data else None
    if isinstance(first, dict):
        if not all(isinstance(row, dict) for row in data):
            raise ValueError("not every row is an object")
        return [[row.get(name, math.nan) for name in names] for row in data]
    rows = [list(row) for row in data] if isinstance(first, list) else [[cell] for cell in data]
    if rows and (width := max(map(len, rows))) != len(names):
        raise ValueError(f"{len(names)} columns, and rows of {width} values")
    return [row + [None] * (len(names) - len(row)) for row in rows]
