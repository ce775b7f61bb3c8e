"""Leaks between splits: a key or a group that stands in two of them would let a model be judged on what it has seen.

Strategies hash and group cannot leak, because equal keys have equal hashes; what a column, a date or a rank decides can.
Called by `ingest` after `split`, before anything is written.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import DatasetSpec, SplitName
from zebra_assets.datasets.table import EXAMPLES, MASK, shorten
from zebra_assets.errors import DataInvalid


def refuse_leaks(table: pa.Table, masks: Mapping[SplitName, pa.Array], spec: DatasetSpec) -> None:
    """Check that no key and no group stands in two splits; without a key, no row twice.

    Raises:
        DataInvalid: one does; the message counts them and names up to five with their splits, sensitive columns masked.
    """
    if spec.splits.strategy in ("hash", "group"):
        return
    # A key that holds the split's own name would hide that the rest of it stands in two.
    apart = spec.splits.column if spec.splits.strategy == "explicit" else None
    key = [name for name in spec.key or table.column_names if name != apart]
    complaints = [_spanning(what, names, table, masks, spec) for what, names in (("key", key), ("group", spec.splits.groups)) if names]
    found = [complaint for complaint in complaints if complaint]
    if found:
        raise DataInvalid(
            f"Dataset '{spec.name}': its splits leak into each other; nothing was committed:\n  " + "\n  ".join(found),
            fix="mend the splits at the source, or let `splits: {strategy: group, groups: [...]}` divide the rows",
        )


def _spanning(what: str, names: list[str], table: pa.Table, masks: Mapping[SplitName, pa.Array], spec: DatasetSpec) -> str | None:
    splits = list(masks)
    number = sum(mask.to_numpy(zero_copy_only=False).astype(np.int8) * i for i, mask in enumerate(masks.values()))
    # Columns go by their place, so that none can be called like the split's number.
    columns = [str(i) for i in range(len(names))]
    numbered = pa.table([*(table[name] for name in names), pa.array(number)], names=[*columns, "at"])
    ranges = numbered.group_by(columns).aggregate([("at", "min"), ("at", "max")])
    leaks = ranges.filter(pc.less(ranges["at_min"], ranges["at_max"])).sort_by([(name, "ascending") for name in columns])
    if not leaks.num_rows:
        return None
    shown = []
    for row in leaks.slice(0, EXAMPLES).to_pylist():
        cells = ", ".join(MASK if name in spec.sensitive else shorten(row[column]) for name, column in zip(names, columns, strict=True))
        shown.append(f"({cells}) in {splits[row['at_min']]} and {splits[row['at_max']]}")
    more = ", ..." if leaks.num_rows > EXAMPLES else ""
    return f"{what} {', '.join(names)}: {leaks.num_rows:,} in two splits: {', '.join(shown)}{more}"
