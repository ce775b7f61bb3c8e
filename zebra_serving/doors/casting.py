"""A scoring body whose values do not fit the model's columns, cast as MLflow's server casts: the MLflow door's second reading.

MLflow lets pandas guess a column's type from its values, and numpy cast it to the signature's: 2.7 becomes 2 in a column of whole
numbers, true becomes 1.0, any text a true; 5 in a column of text stays a number, which no vocabulary has. The same is done here, or
refused where MLflow fails. What comes out is what the model reads and what is captured. Half a surrogate pair, which no store takes,
becomes U+FFFD. `frames` and `arrays` read the columns.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zebra_assets.contracts.model_folder import ModelFeature
from zebra_serving.doors import arrays, frames
from zebra_serving.doors.frames import Frame, inferred
from zebra_serving.problems import FieldError, InputInvalid, Malformed
from zebra_serving.refusals import MAX_ERRORS, MAX_ROWS, refuse_count
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema

KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
FIX = 'send {"dataframe_split": {"columns": […], "data": [[…]]}}; GET /model shows the columns'
# MLflow takes a body with one of these for a chat's, and hands it over unread.
_CHATS = {"messages", "prompt", "input"}
_FAILURES = (ValueError, TypeError, OverflowError)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:([T ])\d\d:\d\d(:\d\d)?(\.\d{1,9})?)?")
_HALF = re.compile("[\ud800-\udfff]")
_NO_MOMENT = ("", "NaT", "nan", "NaN", "NULL")


def cast(schema: RowSchema, body: bytes) -> Rows:
    """The rows of a body of `/invocations`, cast to the model's columns.

    Raises:
        Malformed: no JSON, or no scoring request.
        InputInvalid: values that MLflow cannot cast either, or a column that the model cannot do without.
        TooLarge: more than 10,000 rows.
    """
    frame = _frame(schema, body)
    if absent := [f for f in schema.features if f.name not in frame.columns]:
        _refuse_absent(schema, absent)
    if not 0 < frame.count <= MAX_ROWS:
        refuse_count(frame.count)
    cells: list[Sequence[Any] | None] = [_feature(schema, frame, feature) for feature in schema.features]
    for key in schema.keys:
        said = frame.said.get(key.name)  # nothing to MLflow, so it cannot be wrong
        cells.append(None if said is None or not all(map(_whole, said)) else schema.read(key.name, said))
    return schema.of_columns(cells)


def cast_to(dtype: str, found: np.ndarray, narrow: bool = False) -> list[Any]:
    """A column's cells as a dtype of the data contracts, of 32 bits where ``narrow``; None for a number that is missing.

    Raises:
        ValueError, TypeError, OverflowError: pandas or the model would have failed on it.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if dtype == "int64":
            if found.dtype.kind == "f" and not np.isfinite(found).all():
                raise ValueError("not finite")
            return list(found.astype(np.int32 if narrow else np.int64).tolist())
        if dtype == "float64":
            return [None if value != value else value for value in found.astype(np.float32 if narrow else np.float64).tolist()]
        if dtype == "bool":
            return list(found.astype(bool).tolist())
        if dtype == "string":
            return [_text(value) for value in found.astype(object).tolist()]
        return _moments(found)


def _frame(schema: RowSchema, body: bytes) -> Frame:
    try:
        document = json.loads(body)  # as MLflow reads: NaN, Infinity and half characters too
    except (ValueError, RecursionError) as error:
        raise Malformed(f"The body is not JSON: {str(error).rstrip('.')}.", fix=FIX) from error
    given = [key for key in KEYS if key in document] if isinstance(document, dict) else []
    if len(given) != 1 or _CHATS & document.keys():
        raise Malformed(f"The body has {len(given)} of {', '.join(KEYS)}, not one.", fix=FIX)
    key, said = given[0], document[given[0]]
    rows = said.get("data") if key == "dataframe_split" and isinstance(said, dict) else said
    if isinstance(rows, list) and len(rows) > MAX_ROWS:
        refuse_count(len(rows))
    try:
        if key == "dataframe_split":
            return frames.split(schema, said)
        if key == "dataframe_records":
            return frames.records(said)
        return arrays.inputs(schema, said) if key == "inputs" else arrays.instances(schema, said)
    except _FAILURES as error:
        why = FieldError(0, key, "rows or columns", ascii(str(error))[1:-1][:200])
        raise InputInvalid([why], message=f"`{key}` has no columns that fit together.", fix=FIX) from error


def _feature(schema: RowSchema, frame: Frame, feature: ModelFeature) -> list[Any]:
    found = frame.columns[feature.name]
    try:
        return list(found.tolist()) if frame.typed and feature.dtype == "bool" else cast_to(feature.dtype, found, feature.narrow)
    except _FAILURES as error:
        said = frame.said[feature.name]
        wrong = [i for i, value in enumerate(said) if not _castable(feature.dtype, value)] or range(len(said))
        told = [FieldError(i, feature.name, schema.expected(feature), _shown(said[i])) for i in wrong[:MAX_ERRORS]]
        raise InputInvalid(told, len(wrong), message=f"Column {feature.name} cannot be cast as MLflow casts it.") from error


def _castable(dtype: str, value: Any) -> bool:
    """Whether a value alone is one that the column takes."""
    try:
        cast_to(dtype, inferred([value]))
    except _FAILURES:
        return False
    return True


def _refuse_absent(schema: RowSchema, absent: list[ModelFeature]) -> None:
    told = [FieldError(0, f.name, schema.expected(f), "no such column") for f in absent[:MAX_ERRORS]]
    fix = "send every column, with null where a value is missing: MLflow shows the model only the columns that came"
    optional = all(not f.required for f in absent)
    raise InputInvalid(told, len(absent), message="Columns are missing.", fix=fix if optional else None)


def _text(value: Any) -> Any:
    """A cell of text as the encoders look it up: what is no text stays what it is, and is unknown to them."""
    if isinstance(value, str):
        return value if value.isascii() else _HALF.sub("\ufffd", value)
    if isinstance(value, list | dict):
        raise TypeError("not hashable")
    return value


def _whole(value: Any) -> bool:
    return not isinstance(value, str) or _text(value) == value


def _moments(found: np.ndarray) -> list[Any]:
    """As pandas' `to_datetime`, as far as ISO 8601 without a zone goes: one spelling for a whole column, numbers are nanoseconds."""
    if found.dtype.kind == "O":
        cells = found.tolist()
        texts = [cell for cell in cells if isinstance(cell, str) and cell not in _NO_MOMENT]
        spellings = {match and (match[1], bool(match[2]), bool(match[3])) for match in map(_MOMENT.fullmatch, texts)}
        if None in spellings or len(spellings) > 1 or not all(cell is None or cell != cell or isinstance(cell, str) for cell in cells):
            raise ValueError("no moments of one spelling")
        if not all("1678" <= text[:4] <= "2261" for text in texts):
            raise ValueError("out of bounds")
        kept = set(texts)
        found = np.array([np.datetime64(c.replace(" ", "T") if isinstance(c, str) and c in kept else "NaT", "ns") for c in cells])
    elif found.dtype.kind == "f":
        found = np.where(np.isfinite(found), found, np.nan).astype("datetime64[ns]")
    elif found.dtype.kind == "i":
        found = found.view("datetime64[ns]")
    elif found.dtype.kind != "M":
        raise TypeError("no moments")
    return list(found.astype("datetime64[us]").tolist())


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
