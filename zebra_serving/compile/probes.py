"""Rows on which a compiled form has to agree with its model: where forms go wrong, not where they go right.

Every word the model knows, a word it does not, missing values where they are allowed; of numbers the thresholds of its trees
with their float64 and float32 neighbours, four standard deviations around each scaler's mean, the example's own values.
Runs in the compiling child only.
"""

from typing import Any

import numpy as np

from zebra_serving.compile.plan import Plan, Slot, any_value, stranger
from zebra_serving.schema import RowSchema

ROWS = 4000
_PLACES = (0.0, 1.0, -1.0, 0.5, 2.0)


def probe_rows(schema: RowSchema, plan: Plan, splits: list[tuple[int, float]], example: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`ROWS` rows in the schema's order; the same ones for the same model."""
    random = np.random.default_rng(20260321)
    pools = [_pool(i, schema, plan, splits, [row[i] for row in example], random) for i in range(len(schema.names))]
    columns = [[pool[k] for k in random.integers(len(pool), size=ROWS)] for pool in pools]
    return list(zip(*columns, strict=True))


def _pool(
    i: int, schema: RowSchema, plan: Plan, splits: list[tuple[int, float]], seen: list[Any], random: np.random.Generator
) -> list[Any]:
    """Values of one column to draw from."""
    feature, table = schema.features[i], plan.tables[i]
    if feature.dtype == "bool":
        return [False, True]
    if table is not None:
        if not table.width:
            return seen or [any_value(feature)]
        known = [k for k, block in zip(table.keys, table.blocks, strict=True) if block is not None]
        return known * (1 + 20 // len(known)) + ([stranger(feature, table.keys)] if table.unknown is not None else [])
    slots = [(n, s) for n, s in enumerate(plan.slots) if s.source == i]
    numbers = [float(v) for v in seen if v is not None] + list(_PLACES)
    for n, slot in slots:
        numbers += [_back(slot, t) for m, t in splits if m == n]
        middle = slot.shift if slot.scale != 1.0 or slot.shift else 0.0
        numbers += list(middle + random.normal(size=200) * 4 * abs(slot.scale if slot.scale != 1.0 else 1.0))
    numbers += list(random.uniform(min(numbers), max(numbers), size=200))
    near = [float(np.nextafter(v, side)) for v in numbers for side in (-np.inf, np.inf)]
    near += [float(np.nextafter(np.float32(v), np.float32(side))) for v in numbers for side in (-np.inf, np.inf)]
    pool: list[Any] = numbers + near + [float(np.float32(v)) for v in numbers]
    if feature.dtype == "int64":
        pool = sorted({int(np.floor(v)) + up for v in pool for up in (0, 1) if abs(v) < 2**53})
    if not feature.required:
        pool += [None] * (1 + len(pool) // 20)
    return pool


def _back(slot: Slot, value: float) -> float:
    """The raw number that becomes about ``value`` in its slot."""
    return float((value - slot.offset) / (slot.factor or 1.0) * slot.scale + slot.shift)
