"""Leaks between splits: a key or a group that stands in two of them would let a model be judged on what it has seen.

Strategies hash, group and stratified cannot leak, because equal keys have equal hashes; what a column or a date decides can.
Looking through all rows for it is in `seen`; here it is refused. Called by `ingest` before anything is committed.
"""

from collections.abc import Mapping

import pyarrow as pa

from zebra_assets.contracts.dataset_spec import DatasetSpec, SplitName
from zebra_assets.datasets.seen import Leak, Seen, leak_questions, marks
from zebra_assets.errors import DataInvalid


def refuse_leaks(table: pa.Table, masks: Mapping[SplitName, pa.BooleanArray], spec: DatasetSpec) -> None:
    """Check that no key and no group of a whole table stands in two splits; without a key, no row twice.

    Args:
        table: rows whose keys are unique (`validate`).

    Raises:
        DataInvalid: as `refuse`.
    """
    asked = leak_questions(spec)
    with Seen(asked, spec, None) as seen:
        seen.add(marks(table, asked, masks=masks))
        refuse(seen.leaks(lambda rows: table.take(pa.array(rows))), spec)


def refuse(leaks: list[Leak], spec: DatasetSpec) -> None:
    """Refuse what `Seen.leaks` found.

    Raises:
        DataInvalid: there is a leak; the message counts keys and groups and names the first five with their splits, sensitive
            columns masked.
    """
    if leaks:
        raise DataInvalid(
            f"Dataset '{spec.name}': its splits leak into each other; nothing was committed:\n  " + "\n  ".join(map(_told, leaks)),
            fix="mend the splits at the source, or let `splits: {strategy: group, groups: [...]}` divide the rows",
        )


def _told(leak: Leak) -> str:
    more = ", ..." if leak.count > len(leak.examples) else ""
    names = ", ".join(leak.question.columns)
    return f"{leak.question.kind} {names}: {leak.count:,} in two splits: {', '.join(leak.examples)}{more}"
