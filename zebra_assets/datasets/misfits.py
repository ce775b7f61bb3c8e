"""Which cells do not cast: the slow path of a cast, walked only when a cast has failed.

First what is surely wrong, by one vectorised look; then, among the few that look right and are not (2026-02-30, a number
beyond 64 bits), by halving. Casting cell by cell would take 0.1 ms each: 5 minutes for two wrong columns of 1.4 m rows.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.dtypes import to_dtype

Positions = np.ndarray[Any, np.dtype[np.int64]]
MOST = 200  # wrong values told apart by halving, per batch
# What every text that casts looks like; not everything that looks so casts.
LOOKS: dict[Dtype, str] = {
    "int64": r"^-?[0-9]{1,19}$",
    "float64": r"(?i)^([0-9eE+.-]+|[+-]?(nan|inf|infinity))$",
    "bool": r"(?i)^(true|false|0|1)$",
    "date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "timestamp": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$",
}


def misfits(values: pa.Array, dtype: Dtype) -> tuple[Positions, bool]:
    """Positions of the cells that do not cast, and whether these are all of them.

    They are not all when more than 200 distinct values look right and are wrong. ``values`` is a batch for which
    `to_dtype` raised `pa.ArrowInvalid`.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    wrong = np.array(pc.fill_null(_surely_wrong(values, dtype), False))
    rest = np.flatnonzero(~wrong)
    encoded = pc.dictionary_encode(values.take(pa.array(rest)))
    found: list[int] = []
    exact = _halve(encoded.dictionary, dtype, 0, found)
    wrong[rest[np.isin(np.asarray(pc.fill_null(encoded.indices, -1)), found)]] = True
    return np.flatnonzero(wrong), exact


def _surely_wrong(values: pa.Array, dtype: Dtype) -> pa.Array:
    kind, types = values.type, pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        text = values.cast(pa.string())
        return pc.and_not(pc.invert(pc.match_substring_regex(text, LOOKS[dtype])), pc.equal(text, ""))
    if dtype == "int64" and types.is_floating(kind):
        return pc.not_equal(values, pc.floor(values))
    if dtype == "bool":
        return pc.invert(pc.is_in(values, pa.array([0, 1, None], kind)))
    if dtype == "date":
        return pc.not_equal(values.cast(pa.date32()).cast(kind), values)
    return pa.array(np.zeros(len(values), dtype=bool))


def _halve(values: pa.Array, dtype: Dtype, start: int, found: list[int]) -> bool:
    """Add the positions of values that do not cast to ``found``; False when there are more than it may hold."""
    try:
        to_dtype(values, dtype)
    except pa.ArrowInvalid:
        if len(found) >= MOST:
            return False
        if len(values) == 1:
            found.append(start)
            return True
        middle = len(values) // 2
        return _halve(values[:middle], dtype, start, found) and _halve(values[middle:], dtype, start + middle, found)
    return True
