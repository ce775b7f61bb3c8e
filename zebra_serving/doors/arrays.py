"""`inputs` and `instances` as MLflow makes numpy arrays of the signature's types of them, by column, and a DataFrame of those.

Unlike in `frames`, numpy casts each value before pandas looks: 5 in a column of text becomes "5", null becomes "None".
"""

import math
from typing import Any

import numpy as np

from zebra_serving.doors.frames import Frame, inferred
from zebra_serving.problems import TooLarge
from zebra_serving.schema import RowSchema

_NUMPY = {"int64": "int64", "float64": "float64", "string": "str", "bool": "bool", "timestamp": "datetime64[ns]", "date": "datetime64[ns]"}
MAX_CHARACTERS = 16 << 20  # of an array of texts, 64 MB
_NARROW = {"int64": "int32", "float64": "float32"}


def inputs(schema: RowSchema, said: Any) -> Frame:
    """Columns, or records of numpy's scalars that pandas then looks at.

    Raises:
        ValueError, TypeError, OverflowError: where MLflow, numpy or pandas fail.
        TooLarge: it would take far more memory than the body has bytes.
    """
    if isinstance(said, list) and len(schema.names) == 1 and not any(isinstance(row, dict) for row in said):
        said = {schema.names[0]: said}
    kinds = _kinds(schema)
    if isinstance(said, dict):
        return _joined(kinds, {name: _converted(kinds, name, value) for name, value in said.items()}, said)
    if not isinstance(said, list) or not all(isinstance(row, dict) for row in said):
        raise ValueError("it is an object of columns or a list of objects")
    made = [{name: _converted(kinds, name, value) for name, value in row.items()} for row in said]
    frame = Frame(len(said), typed=True)
    for name, kind in kinds.items():
        if any(name in row for row in made):
            frame.columns[name] = _looked_at(name, kind, [row.get(name, math.nan) for row in made])
            frame.said[name] = [row.get(name) for row in said]
    frame.said |= {key.name: [row.get(key.name) for row in said] for key in schema.keys if any(key.name in row for row in said)}
    return frame


def _looked_at(name: str, kind: str, cells: list[Any]) -> np.ndarray:
    """A column of numpy's scalars as pandas holds it; NaN where a record has none."""
    if kind in _NARROW.values():
        if any(isinstance(cell, np.ndarray) or type(cell) is float for cell in cells):
            raise ValueError(f"{name} is no column of {kind}")  # beside pandas' own NaN it is of 64 bits, and MLflow casts no more
        return np.array(cells, kind)
    if kind == "float64":  # to pandas' eyes a list without values is a number that is missing
        cells = [math.nan if isinstance(cell, np.ndarray) and not len(cell) else cell for cell in cells]
    if any(isinstance(cell, np.ndarray) for cell in cells) or (kind == "int64" and any(cell != cell for cell in cells)):
        raise ValueError(f"{name} is no column of {kind}")
    if kind == "datetime64[ns]":
        return np.array([np.datetime64("NaT") if cell != cell else cell for cell in cells], dtype=kind)
    plain = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
    if kind == "bool":  # what a record left out stays missing
        return np.array([None if cell != cell else cell for cell in plain], dtype=object if math.nan in plain else bool)
    return inferred(plain)


def instances(schema: RowSchema, said: Any) -> Frame:
    """As `inputs`, but records become columns first, so each must name the same ones; raises the same."""
    if not isinstance(said, list) or not said or not isinstance(said[0], dict):
        return inputs(schema, said)
    if not all(isinstance(row, dict) for row in said):
        raise ValueError("not every row is an object")
    kinds = _kinds(schema)
    cells: dict[str, list[Any]] = {}
    raw: dict[str, list[Any]] = {}
    for row in said:
        for name, value in row.items():
            cells.setdefault(name, []).append(_converted(kinds, name, value))
            raw.setdefault(name, []).append(value)
    return _joined(kinds, {name: _array(column) for name, column in cells.items()}, raw)


def _converted(kinds: dict[str, str], name: str, value: Any) -> Any:
    """MLflow's `convert_data_type`: an array, or a scalar of the signature's type; a column that it does not know is any array."""
    kind = kinds.get(name)
    if kind is None:
        return _array(value)
    return _array(value, kind) if isinstance(value, list) else np.array([value], kind)[0]


def _array(value: Any, kind: str | None = None) -> np.ndarray:
    """``numpy.array``, which gives each text the room of the longest: of 10,000 cells one of a megabyte would take 40 GB."""
    count, longest = _extent(value)
    if count * longest > MAX_CHARACTERS:
        raise TooLarge(f"{count:,} cells beside a text of {longest:,} characters.", fix="send long texts in rows, as dataframe_split")
    return np.array(value, kind)


def _extent(value: Any) -> tuple[int, int]:
    """How many cells nested lists have, and the length of the longest text among them."""
    count = longest = 0
    left = [value]
    while left:
        for cell in left.pop() if isinstance(left[-1], list) else [left.pop()]:
            if isinstance(cell, list):
                left.append(cell)
            else:
                count += 1
                longest = max(longest, len(cell)) if isinstance(cell, str) else longest
    return count, longest


def _kinds(schema: RowSchema) -> dict[str, str]:
    return {f.name: _NARROW[f.dtype] if f.narrow else _NUMPY[f.dtype] for f in schema.features}


def _joined(kinds: dict[str, str], made: dict[str, Any], said: dict[str, Any]) -> Frame:
    """What pandas makes of arrays and scalars by name: all of one length, and scalars as often as that."""
    if all(isinstance(value, np.generic) for value in made.values()):
        return Frame(1, {name: np.array([value]) for name, value in made.items()}, {name: [value] for name, value in said.items()}, True)
    lengths = {len(value) for value in made.values() if np.ndim(value)}
    if len(lengths) != 1:
        raise ValueError("the columns differ in length" if lengths else "a number for a column nobody knows")
    count = lengths.pop()
    for name in made.keys() - kinds.keys():
        if isinstance(said[name], dict) and len(said[name]) not in (1, count):  # pandas takes it for a list of its keys
            raise ValueError("the columns differ in length")
        if made[name].dtype == object and made[name].ndim == 1:
            inferred(made[name].tolist())
    columns = {name: value if np.ndim(value) else np.full(count, value) for name, value in made.items()}
    for name, kind in kinds.items():
        if name in columns and columns[name].ndim > 1:
            if kind != "float64" or columns[name].shape != (count, 0):
                raise ValueError(f"{name} has lists for values")
            columns[name] = np.full(count, math.nan)
    return Frame(count, columns, {name: value if isinstance(value, list) else [value] * count for name, value in said.items()}, True)
