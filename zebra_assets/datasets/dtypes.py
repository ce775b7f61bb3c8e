"""The six dtypes: their Arrow types, and strict casts to them.

A cast never loses anything: 2.5 is no int64, 2**60+1 is no float64, 10:00 is no date, a number is no string. Called by
`table`, batch by batch, and by `misfits` when a cast failed.
"""

import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import Dtype

ARROW: dict[Dtype, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
# A clock time with a zone behind it; "2026-01-31" alone ends in what looks like one.
ZONED = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"


def to_dtype(values: pa.Array, dtype: Dtype) -> pa.Array:
    """Cast strictly.

    Text is read as ISO 8601 dates and times, decimal numbers (integers also as 0x1F), true/false/1/0; an empty text is null
    unless the dtype is string, and blanks around a number or a date do not count. Timestamps without a zone are UTC. Numbers
    convert where the value stays exactly the same.

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
    empty = pc.equal(values, _text(""))
    if pc.any(empty).as_py():
        values = pc.if_else(empty, pa.scalar(None, pa.string()), values)
    if dtype in ("int64", "float64", "date"):
        values = pc.ascii_trim(values, " \t")  # as Arrow's CSV reader does
    if dtype == "timestamp":
        short = pc.equal(pc.utf8_length(values), pa.scalar(10, pa.int32()))
        dated = pc.if_else(short, pc.binary_join_element_wise(values, _text("00:00"), _text("T")), values)
        values = pc.if_else(pc.match_substring_regex(dated, ZONED), dated, pc.binary_join_element_wise(dated, _text("Z"), _text("")))
    return values.cast(ARROW[dtype])


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.string())  # of a plain str pyarrow would look for the type, and import pandas to do so


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
