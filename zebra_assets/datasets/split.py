"""Which split a row belongs to: by default a hash of its key, so that it stays where it is when other rows come or go.

`plan` tells how a recipe divides, block by block and on any machine; only stratified must have seen all rows before it can
deal the first. The hash itself is in `row_hash`, exact shares per stratum in `strata`, and whether splits leak into each other
in `leaks`. Called by `ingest`.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import SPLITS, DatasetSpec, SplitName, SplitSpec, moment
from zebra_assets.datasets import cells
from zebra_assets.datasets.row_hash import Words
from zebra_assets.datasets.row_hash import row_hashes as row_hashes  # also under this name, to `diff`
from zebra_assets.datasets.row_hash import splitmix64 as splitmix64
from zebra_assets.datasets.strata import Strata
from zebra_assets.errors import DataInvalid, did_you_mean

Numbers = np.ndarray[Any, np.dtype[np.integer[Any]]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Masks = dict[SplitName, pa.BooleanArray]


class SplitPlan(ABC):
    """How rows are divided: `assign` block after block, in any order; where `needs_pass`, first `observe` all and `settle`.

    Small and picklable once settled. `names` are the splits that every answer tells of, in the order train, valid, test;
    `required` those of them that a manifest must have rows in.
    """

    needs_pass = False

    def __init__(self, names: tuple[SplitName, ...]) -> None:
        self.names = names
        self.required = names

    def observe(self, block: pa.Table) -> None:  # noqa: B027 # most strategies have nothing to learn
        """Take note of a block on the first pass; the order of blocks does not matter."""

    def settle(self) -> None:  # noqa: B027
        """The first pass is over."""

    @abstractmethod
    def assign(self, block: pa.Table, first_row: int = 0) -> Masks:
        """Row masks by split; each row is in exactly one. ``first_row``, the block's place, is of no consequence to any strategy.

        Raises:
            DataInvalid: strategy explicit, and a row names no split.
        """

    def _masks(self, at: Numbers) -> Masks:
        """From each row's place in `names`."""
        return {name: pa.array(at == i) for i, name in enumerate(self.names)}


def plan(spec: DatasetSpec, *, scratch: Path | None = None) -> SplitPlan:
    """How a recipe divides its rows.

    Args:
        scratch: folder where stratified, on its first pass, keeps 16 bytes a row; None keeps them in memory.
    """
    return _plan(spec.splits, spec.key, spec.split_column, scratch)


def assign(table: pa.Table, key: list[str], spec: SplitSpec, *, column: str | None = None) -> Masks:
    """Row masks by split of a whole table; explicit leaves out splits but train that no row names.

    Args:
        table: canonical columns (see `dtypes.ARROW`).
        key: the columns that decide; all columns when empty, so equal rows share a split.
        column: what strategies stratified, explicit and time read (`DatasetSpec.split_column`).

    Raises:
        DataInvalid: strategy explicit, and a row names no split.
    """
    how = _plan(spec, key, column, None)
    if how.needs_pass:
        how.observe(table)
        how.settle()
    return {name: mask for name, mask in how.assign(table).items() if name in how.required or mask.true_count}


def _plan(spec: SplitSpec, key: list[str], column: str | None, scratch: Path | None) -> SplitPlan:
    if spec.strategy == "explicit":
        return _Named(str(column))
    if spec.strategy == "time":
        return _Dated(spec, str(column))
    if spec.strategy == "stratified":
        return _Stratified(spec, key, str(column), scratch)
    return _Hashed(spec, spec.groups if spec.strategy == "group" else key)


class _Hashed(SplitPlan):
    """hash and group: the row's hash, as a share of 1, against the fractions."""

    def __init__(self, spec: SplitSpec, deciding: list[str]) -> None:
        super().__init__(tuple(name for name in SPLITS if name in spec.fractions))
        self._deciding, self._salt = deciding, spec.salt
        # The last split takes the rest, rounding included.
        self._upper: Floats = np.cumsum([spec.fractions[name] for name in self.names])[:-1]

    def _hashes(self, block: pa.Table) -> Words:
        return row_hashes(block.select(self._deciding) if self._deciding else block, self._salt)

    def assign(self, block: pa.Table, first_row: int = 0) -> Masks:
        share = (self._hashes(block) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        at = np.zeros(len(share), dtype=np.int8)
        for upper in self._upper:
            at += share >= upper
        return self._masks(at)


class _Stratified(_Hashed):
    """stratified: rows in hash order within each value of a column, cut at exact shares."""

    needs_pass = True

    def __init__(self, spec: SplitSpec, key: list[str], column: str, scratch: Path | None) -> None:
        super().__init__(spec, key)
        self._column, self._strata = column, Strata(self._upper, scratch)

    def observe(self, block: pa.Table) -> None:
        self._strata.observe(self._hashes(block), block[self._column])

    def settle(self) -> None:
        self._strata.settle()

    def assign(self, block: pa.Table, first_row: int = 0) -> Masks:
        return self._masks(self._strata.deal(self._hashes(block), block[self._column]))


class _Named(SplitPlan):
    """explicit: a column says it."""

    def __init__(self, column: str) -> None:
        super().__init__(SPLITS)
        self._column = column
        self.required = ("train",)

    def assign(self, block: pa.Table, first_row: int = 0) -> Masks:
        values = block[self._column]
        strange = values.filter(pc.invert(pc.is_in(values, pa.array(SPLITS, pa.string())))).unique().to_pylist()
        if strange:
            shown = ", ".join(f"{value!r}.{did_you_mean(str(value), list(SPLITS))}".removesuffix(".") for value in strange[:5])
            raise DataInvalid(
                f"The column that names splits holds {len(strange):,} other values: {shown}",
                fix=f"write one of {', '.join(SPLITS)} into every row",
            )
        return {name: pc.equal(values, pa.scalar(name, pa.string())).combine_chunks() for name in SPLITS}


class _Dated(SplitPlan):
    """time: cuts on a date or timestamp column; what stands at a cut belongs to the split that begins there."""

    def __init__(self, spec: SplitSpec, column: str) -> None:
        super().__init__(("train", *(name for name in SPLITS if name in spec.cuts)))
        self._column = column
        self._begins = [moment(spec.cuts[name]) for name in self.names[1:]]  # they ascend

    def assign(self, block: pa.Table, first_row: int = 0) -> Masks:
        values = block[self._column]
        moments = values.cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")) if values.type == pa.date32() else values
        at = np.zeros(len(values), dtype=np.int8)
        for begin in self._begins:
            at += cells.truths(pc.greater_equal(moments, pa.scalar(begin, pa.timestamp("us", tz="UTC"))))
        return self._masks(at)
