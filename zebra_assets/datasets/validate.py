"""Whether the rows keep the recipe's promises: nulls, keys, uniqueness, ranges, allowed values, rules across columns, size.

A table that no memory holds is examined block by block, on any machine; the findings are small, are merged in the order of
blocks, and `conclude` tells of every rule how it went. Rules run on pyarrow.compute: pandera costs 1.0 s of import and a
pandas copy of the table, so it is offered for people's own checks (`pandera_schema`) and stays out of the ingest. What a rule
means is in `rules`. Called by `ingest` and `defs.datasets`.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets import cells
from zebra_assets.datasets.findings import Broken, Findings, row_examples
from zebra_assets.datasets.rules import Rule, key_repeats, rules_of
from zebra_assets.datasets.seen import Seen, marks, unique_questions
from zebra_assets.datasets.spill import Companions
from zebra_assets.datasets.summary import missing
from zebra_assets.datasets.table import EXAMPLES
from zebra_assets.errors import DataInvalid

Repeats = Mapping[tuple[str, ...], Broken]


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
    """Check a whole table in canonical order against its recipe; all rules, in the recipe's order.

    Args:
        came_from: for each row its position in the source, for row numbers in messages; None when in source order.
    """

    def numbered(rows: Companions) -> Companions:
        return rows if came_from is None else cells.numbers(came_from.take(pa.array(rows)))

    asked = unique_questions(spec)
    with Seen(asked, spec, None) as seen:
        seen.add(marks(table, asked))
        repeats = seen.repeats(lambda rows: table.take(pa.array(rows)), numbered)
    return conclude(examine(table, spec, came_from=came_from), spec, repeats=repeats)


def examine(
    block: pa.Table,
    spec: DatasetSpec,
    *,
    first_row: int = 0,
    came_from: pa.Array | None = None,
    before: pa.Table | None = None,
    coded: pa.Table | None = None,
) -> Findings:
    """What one block says about the rules that hold or break row by row.

    Args:
        block: declared columns in canonical order (see `table.arrange`).
        first_row: position of the block's first row.
        came_from: for each row of the block its position in the source; None when in source order.
        before: the one row just before the block, so that a key repeated across the border is found.
        coded: the block with text dictionary-encoded, by the words of this block only (`parquet.coded`): then rules on cells ask of
            each word, not of each row, which is nearly all of what rules cost.
    """
    found = Findings(rows=block.num_rows, nulls={name: missing(block[name]) for name in spec.columns})
    for place, rule in enumerate(rules_of(spec)):
        rows = _broken_rows(rule, coded if rule.by_word and coded is not None else block, found, before)
        if len(rows):
            first = pa.array(rows[:EXAMPLES])
            numbers = rows[:EXAMPLES] + first_row if came_from is None else cells.numbers(came_from.take(first))
            shown = row_examples(block.select(rule.columns).take(first), [int(n) + 1 for n in numbers], rule.columns, spec)
            found.broken[place] = Broken(len(rows), shown)
    return found


def _broken_rows(rule: Rule, block: pa.Table, found: Findings, before: pa.Table | None) -> Companions:
    none = np.empty(0, np.int64)
    if rule.kind == "key":
        mask = key_repeats(block, rule.columns, before)
    elif rule.broken is None or (rule.kind == "filled" and not found.nulls[rule.columns[0]]):
        return none
    else:
        mask = rule.broken(block)
    # 30 µs where nothing is broken, 150 with the positions.
    return np.flatnonzero(cells.truths(mask)) if pc.any(mask).as_py() else none


def conclude(findings: Findings, spec: DatasetSpec, *, repeats: Repeats) -> list[Check]:
    """How every rule went, in the recipe's order: size, key, columns, `rules:`.

    Args:
        findings: of all blocks, merged in order.
        repeats: what `Seen.repeats` found for `unique_questions`. The key's are in the findings, unless they are here too.
    """
    if not findings.rows:
        return [Check(rule="rows", column=None, passed=False, detail="the source has no rows")]
    checks = _size(findings.rows, spec)
    for place, rule in enumerate(rules_of(spec)):
        if rule.kind == "share":
            checks.append(_nulls_within(rule, findings, spec.expectations.null_limit(rule.columns[0])))
        elif rule.kind == "unique" and spec.key != [*rule.columns]:
            checks.append(_check(rule, repeats[rule.columns]))
        elif rule.kind in ("key", "unique"):  # a single key's column is unique where the key is, and that is the first rule
            checks.append(_check(rule, repeats.get(rule.columns) or findings.broken.get(0, Broken())))
        else:
            checks.append(_check(rule, findings.broken.get(place, Broken())))
    return checks


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


def _size(rows: int, spec: DatasetSpec) -> list[Check]:
    least, most = spec.expectations.min_rows, spec.expectations.max_rows
    checks = [Check(rule="min_rows", column=None, passed=rows >= least, detail=f"{rows:,} rows, at least {least:,} are expected")]
    if most is not None:
        checks.append(Check(rule="max_rows", column=None, passed=rows <= most, detail=f"{rows:,} rows, at most {most:,} are expected"))
    return checks


def _nulls_within(rule: Rule, findings: Findings, most: float) -> Check:
    name = rule.columns[0]
    count = findings.nulls[name]
    share = count / findings.rows
    passed = share <= most
    detail = f"{share:.1%} are null, at most {most:.1%} is expected"
    return Check(rule=rule.name, column=name, passed=passed, count=0 if passed else count, detail=detail)


def _check(rule: Rule, broken: Broken) -> Check:
    column = ", ".join(rule.columns)
    if not broken.count:
        return Check(rule=rule.name, column=column, passed=True)
    more = ", ..." if broken.count > len(broken.examples) else ""
    detail = f"{broken.count:,} rows: {', '.join(broken.examples)}{more}"
    return Check(rule=rule.name, column=column, passed=False, count=broken.count, detail=detail)
