"""Whether the rows keep the recipe's promises: nulls, keys, uniqueness, ranges, allowed values, size.

Every rule is a vectorised pass over one column, and every broken one is told in the same error. Rules run on
pyarrow.compute: pandera costs 1.0 s of import and a pandas copy of the table, so it is offered for people's own checks
(`pandera_schema`) and stays out of the ingest. Called by `ingest`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import ColumnSpec, DatasetSpec
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.dtypes import ARROW
from zebra_assets.datasets.summary import missing
from zebra_assets.datasets.table import EXAMPLES, MASK, shorten
from zebra_assets.errors import DataInvalid

if TYPE_CHECKING:
    import pandera.pandas

PANDAS = {"int64": "Int64", "float64": "float64", "string": "string", "bool": "boolean", "timestamp": "datetime64[us, UTC]", "date": None}


class Check(Noun):
    """One rule on one column (or on the table, when `column` is None) and how it went; `count` rows broke it.

    A broken rule of severity error stops the ingest; a warning is told beside the manifest.
    """

    rule: str
    column: str | None
    passed: bool
    count: int = 0
    detail: str = ""
    severity: Literal["error", "warn"] = "error"


def validate(table: pa.Table, spec: DatasetSpec, came_from: pa.Array | None = None) -> list[Check]:
    """Check a table in canonical order against its recipe; all rules, in the recipe's order.

    Args:
        came_from: for each row its position in the source, for row numbers in messages; None when in source order.
    """
    if table.num_rows == 0:
        return [Check(rule="rows", column=None, passed=False, detail="the source has no rows")]
    return list(_checks(table, spec, came_from))


def refuse_broken(checks: list[Check], spec: DatasetSpec) -> None:
    """Raise `DataInvalid` that lists every rule of severity error that did not pass."""
    broken = [c for c in checks if not c.passed and c.severity == "error"]
    if not broken:
        return
    lines = [f"{f'column {c.column!r}' if c.column else 'table'}: {c.rule}: {c.detail}" for c in broken]
    raise DataInvalid(
        f"Dataset '{spec.name}' breaks {len(broken)} of {len(checks)} rules; nothing was committed:\n  " + "\n  ".join(lines),
        fix=f"mend the rows at the source, or the rules in manifests/{spec.name}/dataset.yaml",
    )


def _checks(table: pa.Table, spec: DatasetSpec, came_from: pa.Array | None) -> Iterator[Check]:
    yield from _size(table, spec)
    if spec.key:
        yield _found("key is unique", spec.key, _repeats(table, spec.key), table, spec, came_from)
    label = spec.label.column if spec.label else None
    for name, column in spec.columns.items():
        values = table[name]
        if not column.nullable:
            rule = "label null" if name == label else "not null"
            yield _found(rule, [name], _missing_mask(values), table, spec, came_from)
        else:
            yield _nulls_within(name, values, spec.expectations.null_limit(name))
        for rule, broken in _rules(values, column):
            yield _found(rule, [name], pc.fill_null(broken, False), table, spec, came_from)


def _size(table: pa.Table, spec: DatasetSpec) -> Iterator[Check]:
    rows, least, most = table.num_rows, spec.expectations.min_rows, spec.expectations.max_rows
    yield Check(rule="min_rows", column=None, passed=rows >= least, detail=f"{rows:,} rows, at least {least:,} are expected")
    if most is not None:
        yield Check(rule="max_rows", column=None, passed=rows <= most, detail=f"{rows:,} rows, at most {most:,} are expected")


def _rules(values: pa.ChunkedArray, column: ColumnSpec) -> Iterator[tuple[str, pa.ChunkedArray | pa.Array]]:
    """The declared rules on values, each with the mask of cells that break it."""
    if column.min is not None:
        yield f"min {column.min:g}", pc.less(values, column.min)
    if column.max is not None:
        yield f"max {column.max:g}", pc.greater(values, column.max)
    if column.values is not None:
        allowed = pa.array(column.values, ARROW[column.dtype])
        yield f"one of {', '.join(str(v) for v in column.values[:8])}", pc.and_(values.is_valid(), pc.invert(pc.is_in(values, allowed)))
    if column.unique:
        yield "unique", _duplicated(values)


def _missing_mask(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.is_null(nan_is_null=pa.types.is_floating(values.type))


def _repeats(table: pa.Table, key: list[str]) -> pa.Array:
    """Rows whose key equals the row before; the table is sorted by key, so equal keys are neighbours."""
    before, after = table.slice(0, table.num_rows - 1), table.slice(1)
    repeats = np.ones(table.num_rows, dtype=bool)
    repeats[0] = False
    for name in key:
        repeats[1:] &= pc.fill_null(pc.equal(before[name], after[name]), False).to_numpy()
    return pa.array(repeats)


def _duplicated(values: pa.ChunkedArray) -> pa.Array:
    """Cells whose value stands in an earlier row; nulls never count."""
    valid = values.is_valid().to_numpy()
    codes = pc.dictionary_encode(values).combine_chunks().indices.fill_null(0).to_numpy(zero_copy_only=False)[valid]
    rows = np.flatnonzero(valid)
    _, first = np.unique(codes, return_index=True)
    mask = valid.copy()
    mask[rows[first]] = False
    return pa.array(mask)


def _nulls_within(name: str, values: pa.ChunkedArray, most: float) -> Check:
    count = missing(values)
    share = count / max(len(values), 1)
    passed = share <= most
    detail = f"{share:.1%} are null, at most {most:.1%} is expected"
    return Check(rule="null fraction", column=name, passed=passed, count=0 if passed else count, detail=detail)


def _found(
    rule: str, columns: list[str], broken: pa.ChunkedArray | pa.Array, table: pa.Table, spec: DatasetSpec, came_from: pa.Array | None
) -> Check:
    rows = np.flatnonzero(np.asarray(broken))
    name = ", ".join(columns)
    if not len(rows):
        return Check(rule=rule, column=name, passed=True)
    shown = []
    for row in map(int, rows[:EXAMPLES]):
        cells = ", ".join(MASK if c in spec.sensitive else shorten(table[c][row].as_py()) for c in columns)
        shown.append(f"row {_source_row(row, came_from):,} ({cells})")
    more = ", ..." if len(rows) > EXAMPLES else ""
    return Check(rule=rule, column=name, passed=False, count=len(rows), detail=f"{len(rows):,} rows: {', '.join(shown)}{more}")


def _source_row(row: int, came_from: pa.Array | None) -> int:
    return 1 + (row if came_from is None else came_from[row].as_py())


def pandera_schema(spec: DatasetSpec) -> "pandera.pandas.DataFrameSchema":
    """The recipe's column rules as a pandera schema, for notebooks and asset checks over pandas frames.

    Dtypes are pandas' nullable ones (Int64, string, boolean) and coerced; `date` columns stay objects. Expectations on
    the table as a whole are not part of it.
    """
    import pandera.pandas as pandera

    def column(name: str, c: ColumnSpec) -> pandera.Column:
        checks = []
        if c.min is not None:
            checks.append(pandera.Check.ge(c.min))
        if c.max is not None:
            checks.append(pandera.Check.le(c.max))
        if c.values is not None:
            checks.append(pandera.Check.isin(c.values))
        dtype = PANDAS[c.dtype]
        return pandera.Column(dtype, checks, nullable=c.nullable, unique=c.unique, coerce=dtype is not None, description=c.description)

    return pandera.DataFrameSchema({name: column(name, c) for name, c in spec.columns.items()}, unique=spec.key or None, name=spec.name)
