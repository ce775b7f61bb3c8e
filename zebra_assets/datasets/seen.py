"""What only all rows together can answer, and too many to hold: does a value, a key or a group come again, and where?

Each block leaves a 64-bit hash and the row's position per question (`marks`, on any machine); `Seen` spills them in the order
of blocks and looks for equal ones at the end, one 256th at a time. Rows with equal hashes are then read again and compared, so
two values that share a hash accuse nobody. `unique: true` asks here, and so do explicit and dated splits; hash, group and
stratified cannot leak. Called by `validate`, `leaks` and `ingest`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import SPLITS, DatasetSpec, SplitName
from zebra_assets.datasets import cells
from zebra_assets.datasets.findings import Broken, cells_of, row_examples
from zebra_assets.datasets.row_hash import Words, row_hashes
from zebra_assets.datasets.rules import missing_mask
from zebra_assets.datasets.spill import RUN, Companions, Records, Spill
from zebra_assets.datasets.table import EXAMPLES

Marks = list[Records]
Masks = Mapping[SplitName, pa.BooleanArray]
RowsAt = Callable[[Companions], pa.Table]
RowsNumbered = Callable[[Companions], Companions]
# Suspects a question reads again. By chance 50 million values share 0.00007 hashes: with more suspects than this, hashes are not
# what is wrong, and those beyond are believed.
CONFIRMED = 4096
_NOWHERE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Question:
    """Whether cells of `columns` come again: anywhere (`unique`), or in another split (`key`, `group`)."""

    kind: Literal["unique", "key", "group"]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """Keys or groups that stand in two splits: how many, and the first few as messages show them."""

    question: Question
    count: int
    examples: list[str]


def unique_questions(spec: DatasetSpec) -> list[Question]:
    """The columns that must be unique; a key of one column is left out, for equal keys are neighbours (`rules.key_repeats`)."""
    return [Question("unique", (name,)) for name, column in spec.columns.items() if column.unique and spec.key != [name]]


def leak_questions(spec: DatasetSpec) -> list[Question]:
    """What may stand in two splits; nothing that unique keys or the strategy rule out by themselves."""
    splits, asked = spec.splits, list[Question]()
    if splits.strategy not in ("explicit", "time"):  # the others put equal keys, or whole groups, where their hash says
        return []
    # Unique keys have one row each, and equal rows one date. But a key that holds the split's own name hides that its rest may
    # stand in two splits; so may a row without a key.
    if splits.strategy == "explicit" and (not spec.key or splits.column in spec.key):
        asked.append(Question("key", tuple(name for name in spec.key or spec.columns if name != splits.column)))
    asked.append(Question("group", tuple(splits.groups)))
    return [question for question in asked if question.columns]


def questions(spec: DatasetSpec) -> list[Question]:
    """Everything that has to be asked of all rows of a recipe; most recipes ask nothing."""
    return [*unique_questions(spec), *leak_questions(spec)]


def marks(block: pa.Table, asked: list[Question], *, first_row: int = 0, masks: Masks | None = None) -> Marks:
    """What a block leaves behind for `Seen.add`: per question hashes and positions, 16 bytes a row.

    Args:
        first_row: position of the block's first row in canonical order.
        masks: the block's rows by split; questions about leaks need them.
    """
    return [_mark(question, block, first_row, masks) for question in asked]


def _mark(question: Question, block: pa.Table, first_row: int, masks: Masks | None) -> Records:
    hashes = row_hashes(block.select(question.columns))
    positions = np.arange(first_row, first_row + len(hashes))
    if question.kind == "unique":
        given = np.ones(len(hashes), dtype=bool)
        for name in question.columns:
            given &= ~cells.truths(missing_mask(block[name]))
        return (hashes, positions) if given.all() else (hashes[given], positions[given])
    assert masks is not None, "leaks are between splits"
    hashes &= ~np.uint64(3)  # the two lowest bits tell the split
    for name, mask in masks.items():
        hashes |= cells.truths(mask) * np.uint64(SPLITS.index(name))
    return hashes, positions


class Seen:
    """The marks of all blocks. A context manager: leaving it lets go of the scratch files.

    Args:
        asked: the same questions in the same order as given to `marks`.
        scratch: where they go, 16 bytes a row and question; None keeps them in memory.
        run: marks per question in memory before they go there.
    """

    def __init__(self, asked: list[Question], spec: DatasetSpec, scratch: Path | None, *, run: int = RUN) -> None:
        self._spec = spec
        self._asked = [(question, Spill(scratch, run=run)) for question in asked]

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *exc: object) -> None:
        for _, spill in self._asked:
            spill.close()

    def add(self, block: Marks) -> None:
        """Take a block's `marks`: from one thread, in the order of blocks. Raises `Unavailable` when the scratch is full."""
        for (_, spill), (hashes, positions) in zip(self._asked, block, strict=True):
            spill.add(hashes, positions)

    def repeats(self, rows_at: RowsAt, numbered: RowsNumbered | None = None) -> dict[tuple[str, ...], Broken]:
        """Per question about `unique`, by its columns, the rows whose cells stand in an earlier row; nulls never do.

        Args:
            rows_at: reads rows again, given ascending positions in canonical order; called only for suspects, at most 8,192.
            numbered: the positions in the source of rows at these canonical ones; None where the order is the source's.
        """
        asked = ((question, spill) for question, spill in self._asked if question.kind == "unique")
        return {question.columns: self._repeated(question, spill, rows_at, numbered) for question, spill in asked}

    def leaks(self, rows_at: RowsAt) -> list[Leak]:
        """Keys and groups that stand in two splits; ``rows_at`` as in `repeats`, given at most 12,288 positions."""
        asked = ((question, spill) for question, spill in self._asked if question.kind != "unique")
        found = (self._leaking(question, spill, rows_at) for question, spill in asked)
        return [leak for leak in found if leak.count]

    def _repeated(self, question: Question, spill: Spill, rows_at: RowsAt, numbered: RowsNumbered | None) -> Broken:
        count, later, first = _later(spill)
        if not count:
            return Broken()
        places = np.unique(np.concatenate([later, first]))
        rows = rows_at(places).select(question.columns)
        _, originals = np.unique(_classes(rows), return_index=True)
        real = np.setdiff1d(np.searchsorted(places, later), originals)  # ascending
        told = places[real[:EXAMPLES]]
        numbers = told if numbered is None else numbered(told)
        shown = row_examples(rows.take(pa.array(real[:EXAMPLES])), [int(n) + 1 for n in numbers], question.columns, self._spec)
        return Broken(count - len(later) + len(real), shown)

    def _leaking(self, question: Question, spill: Spill, rows_at: RowsAt) -> Leak:
        count, firsts = _torn(spill)
        if not count:
            return Leak(question, 0, [])
        places = np.unique(firsts[firsts != _NOWHERE])
        rows = rows_at(places).select(question.columns)
        # -1 where it stands nowhere: of three splits at most one, so no pair of these.
        classes = np.append(_classes(rows), -1)[np.searchsorted(places, firsts)]
        shown: list[str] = []
        real = 0
        for row, places_of in zip(classes, firsts, strict=True):
            pair = next(((a, b) for a, b in _PAIRS if row[a] == row[b]), None)
            real += pair is not None
            if pair is not None and len(shown) < EXAMPLES:
                at = int(np.searchsorted(places, places_of[pair[0]]))
                shown.append(f"({cells_of(rows, at, question.columns, self._spec)}) in {SPLITS[pair[0]]} and {SPLITS[pair[1]]}")
        return Leak(question, count - len(firsts) + real, shown)


_PAIRS = sorted(combinations(range(3), 2), key=lambda pair: pair[0] - pair[1])  # the farthest apart first


def _later(spill: Spill) -> tuple[int, Companions, Companions]:
    """How many records come after one of the same hash; of the `CONFIRMED` lowest their positions and those of the first ones."""
    count, later, firsts = 0, np.empty(0, np.int64), np.empty(0, np.int64)
    for pieces in spill.partitions():
        known: Records = np.empty(0, np.uint64), np.empty(0, np.int64)
        for piece in pieces:
            hashes, positions = (np.concatenate(pair) for pair in zip(known, piece, strict=True))
            if not _repeats(np.sort(hashes)):  # the ordinary case: 1 ms for 200,000
                known = hashes, positions
                continue
            order = np.argsort(hashes, kind="stable")
            hashes, positions = hashes[order], positions[order]
            new = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]))
            known = hashes[new], positions[new]
            again = np.ones(len(hashes), dtype=bool)
            again[new] = False
            count += int(again.sum())
            first = np.repeat(known[1], np.diff(np.append(new, len(hashes))))[again]
            later, firsts = np.concatenate([later, positions[again]]), np.concatenate([firsts, first])
            lowest = np.argsort(later)[:CONFIRMED]
            later, firsts = later[lowest], firsts[lowest]
    return count, later, firsts


def _torn(spill: Spill) -> tuple[int, Companions]:
    """How many hashes stand in two splits; of the `CONFIRMED` that begin lowest, where they first stand in each split."""
    count, found = 0, np.empty((0, len(SPLITS)), np.int64)
    for pieces in spill.partitions():
        known: Records = np.empty(0, np.uint64), np.empty(0, np.int64)
        for piece in pieces:
            hashes, positions = (np.concatenate(pair) for pair in zip(known, piece, strict=True))
            hashes, first = np.unique(hashes, return_index=True)
            known = hashes, positions[first]
        groups = known[0] >> np.uint64(2)
        if not _repeats(groups):
            continue
        _, of_group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        torn = sizes[of_group] > 1
        _, row = np.unique(of_group[torn], return_inverse=True)
        firsts = np.full((int(row.max()) + 1, len(SPLITS)), _NOWHERE)
        firsts[row, (known[0][torn] & np.uint64(3)).astype(np.int64)] = known[1][torn]
        count += len(firsts)
        found = np.concatenate([found, firsts])
        found = found[np.argsort(found.min(axis=1))[:CONFIRMED]]
    return count, found


def _repeats(ascending: Words) -> bool:
    return bool((ascending[1:] == ascending[:-1]).any())


def _classes(rows: pa.Table) -> Companions:
    """A number per row; rows have the same one when all their cells are equal: null to null, NaN to NaN, -0.0 to 0.0."""
    classes = np.zeros(rows.num_rows, dtype=np.int64)
    for values in rows.columns:
        plain = pc.add(values, pa.scalar(0.0, values.type)) if pa.types.is_floating(values.type) else values
        codes = cells.numbers(pc.dictionary_encode(plain, null_encoding="encode").combine_chunks().indices)
        classes = np.unique(np.stack([classes, codes], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return classes
