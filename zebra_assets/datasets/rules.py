"""What a recipe promises of its rows, rule by rule in the recipe's order, and which rows of a block break one.

Every rule is a vectorised pass over one column or a few; a missing cell (null or NaN) breaks nothing but `not null`. Rules
that only all rows together can answer (uniqueness, shares of nulls) are named here and answered elsewhere. Called by
`validate`, and by `pandera_schema`, so that both mean the same.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import SPLITS, ColumnSpec, DatasetSpec, anchored
from zebra_assets.contracts.row_rule import Column, Comparison, Condition, Joined, columns_of
from zebra_assets.datasets import cells
from zebra_assets.datasets.dtypes import ARROW

Mask = Any  # pa.Array or pa.ChunkedArray of bool
_COMPARE = {"<": pc.less, "<=": pc.less_equal, "==": pc.equal, "!=": pc.not_equal, ">=": pc.greater_equal, ">": pc.greater}


@dataclass(frozen=True)
class Rule:
    """One promise over `columns`. Kinds: `rows` and `filled` can be told of each row (`broken`), `key` of each row and the one
    before it, `share` and `unique` only of all rows together. With `by_word`, text may be dictionary-encoded."""

    name: str
    columns: tuple[str, ...]
    kind: Literal["rows", "filled", "key", "share", "unique"] = "rows"
    broken: Callable[[pa.Table], Mask] | None = None
    by_word: bool = False


def rules_of(spec: DatasetSpec) -> list[Rule]:
    """The recipe's rules on rows, in its order: key, columns, then `rules:`. Bounds on the number of rows are not among them."""
    return list(_rules_of(spec))


def _rules_of(spec: DatasetSpec) -> Iterator[Rule]:
    if spec.key:
        yield Rule("key is unique", tuple(spec.key), "key")
    label = spec.label.column if spec.label else None
    explicit = spec.splits.column if spec.splits.strategy == "explicit" else None
    for name, column in spec.columns.items():
        if column.nullable:
            yield Rule("null fraction", (name,), "share")
        else:
            yield Rule("label null" if name == label else "not null", (name,), "filled", _on(name, missing_mask))
        for said, broken in _cell_rules(column):
            yield Rule(said, (name,), "rows", _by_word(name, broken), by_word=True)
        if name == explicit and column.values is None:
            allowed = _strange(pa.array(SPLITS, pa.string()))
            yield Rule(f"one of {', '.join(SPLITS)}", (name,), "rows", _by_word(name, allowed), by_word=True)
        if column.unique:
            yield Rule("unique", (name,), "unique")
    for text, condition in zip(spec.rules, spec.conditions(), strict=True):
        yield Rule(text, tuple(columns_of(condition)), "rows", _breaking(condition))


def missing_mask(values: pa.ChunkedArray) -> Mask:
    """Which cells are null or NaN."""
    return values.is_null(nan_is_null=pa.types.is_floating(values.type))


def key_repeats(block: pa.Table, key: tuple[str, ...], before: pa.Table | None) -> Mask:
    """Rows whose key equals the row before; rows are sorted by key, so equal keys are neighbours. Null equals nothing."""
    repeats = np.ones(block.num_rows, dtype=bool)
    if before is None or not before.num_rows or not block.num_rows:
        repeats[:1] = False
    else:
        first = [(before[name][-1].as_py(), block[name][0].as_py()) for name in key]
        repeats[0] = all(a is not None and a == b for a, b in first)
    for name in key:
        values = block[name]
        same = pc.equal(values.slice(0, max(len(values) - 1, 0)), values.slice(1))
        repeats[1:] &= cells.truths(same)
    return pa.array(repeats)


def _on(name: str, broken: Callable[[pa.ChunkedArray], Mask]) -> Callable[[pa.Table], Mask]:
    return lambda block: broken(block[name])


def _by_word(name: str, broken: Callable[[pa.ChunkedArray], Mask]) -> Callable[[pa.Table], Mask]:
    """`_on`, asking of dictionary-encoded text each word once."""

    def of(block: pa.Table) -> Mask:
        if not pa.types.is_dictionary(block[name].type):
            return broken(block[name])
        texts = cells.one(block[name])
        wrong = broken(texts.dictionary)
        return wrong.take(texts.indices) if pc.any(wrong).as_py() else pa.repeat(pa.scalar(False, pa.bool_()), len(texts))

    return of


def _cell_rules(column: ColumnSpec) -> Iterator[tuple[str, Callable[[pa.ChunkedArray], Mask]]]:
    """The declared rules on single cells; broken is where the mask is true, neither false nor null."""
    if (least := column.min) is not None:
        yield f"min {least:g}", lambda cells: _below(cells, least)
    if (most := column.max) is not None:
        yield f"max {most:g}", lambda cells: _above(cells, most)
    if column.values is not None:
        yield f"one of {', '.join(str(v) for v in column.values[:8])}", _strange(pa.array(column.values, ARROW[column.dtype]))
    if (pattern := column.pattern) is not None:
        yield f"pattern {pattern}", lambda cells: pc.invert(pc.match_substring_regex(cells, anchored(pattern)))
    if (shortest := column.min_length) is not None:
        yield f"min_length {shortest}", lambda cells: pc.less(pc.utf8_length(cells), _int(shortest))
    if (longest := column.max_length) is not None:
        yield f"max_length {longest}", lambda cells: pc.greater(pc.utf8_length(cells), _int(longest))


def _strange(allowed: pa.Array) -> Callable[[pa.ChunkedArray], Mask]:
    also: list[float | None] = [None]  # allowed, as far as this rule goes
    if pa.types.is_floating(allowed.type):
        also += [math.nan, *([0.0, -0.0] if 0.0 in allowed.to_pylist() else [])]  # Arrow holds the two zeros for different
    known = pa.concat_arrays([allowed, pa.array(also, allowed.type)])
    return lambda cells: pc.invert(pc.is_in(cells, known))


def _below(cells: pa.ChunkedArray, least: float) -> Mask:
    if cells.type != pa.int64():
        return pc.less(cells, pa.scalar(least, pa.float64()))
    # Integers are compared as integers: as floats those beyond 2**53 do not compare at all.
    return pc.is_valid(cells) if least >= 2**63 else pc.less(cells, _int(max(math.ceil(least), -(2**63))))


def _above(cells: pa.ChunkedArray, most: float) -> Mask:
    if cells.type != pa.int64():
        return pc.greater(cells, pa.scalar(most, pa.float64()))
    return pc.is_valid(cells) if most < -(2**63) else pc.greater(cells, _int(min(math.floor(most), 2**63 - 1)))


def _int(value: int) -> pa.Scalar:
    return pa.scalar(value, pa.int64())  # of a plain number pyarrow would have to find the type, and import pandas to do so


def _breaking(condition: Condition) -> Callable[[pa.Table], Mask]:
    return lambda block: pc.invert(_holds(condition, block))


def _holds(condition: Condition, block: pa.Table) -> Mask:
    """Truth per row; null where a missing cell leaves it open (three-valued logic after Kleene, as in SQL)."""
    if isinstance(condition, Column):
        return block[condition.name]
    if isinstance(condition, Joined):
        join = pc.and_kleene if condition.word == "and" else pc.or_kleene
        return reduce(join, (_holds(part, block) for part in condition.parts))
    if isinstance(condition, Comparison):
        return _compared(condition, block)
    return pc.invert(_holds(condition.part, block))


def _compared(said: Comparison, block: pa.Table) -> Mask:
    sides = [block[side.name] if isinstance(side, Column) else side.value for side in (said.left, said.right)]
    types = {side.type if isinstance(side, pa.ChunkedArray) else type(side) for side in sides}
    # An integer beside a fraction is compared as a float, rounded where it is beyond 2**53.
    kind = pa.float64() if types & {pa.float64(), float} else next(side.type for side in sides if isinstance(side, pa.ChunkedArray))
    return _COMPARE[said.operator](*(_side(side, kind) for side in sides))


def _side(side: Any, kind: pa.DataType) -> Any:
    if not isinstance(side, pa.ChunkedArray):
        return pa.scalar(float(side) if kind == pa.float64() else side, kind)
    cells = side if side.type == kind else side.cast(kind, safe=False)
    if kind == pa.float64() and pc.any(nan := pc.is_nan(cells)).as_py():
        return pc.if_else(pc.fill_null(nan, True), pa.scalar(None, kind), cells)
    return cells
