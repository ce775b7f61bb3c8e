"""What is done with one row block: check, divide, hash, write, summarise. A plain function of the block.

A `Job` is small and picklable, and so is what it gives back, so blocks may be worked on by threads here or by processes
on other machines (`engines`). Nothing it does depends on other blocks. Called by the engines only.
"""

import hashlib
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from zebra_assets.contracts.dataset_spec import DatasetSpec, SplitName
from zebra_assets.contracts.object_store import blob_key
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.datasets import direct
from zebra_assets.datasets.blocks import block_digest
from zebra_assets.datasets.cells import truths
from zebra_assets.datasets.findings import Findings
from zebra_assets.datasets.parquet import coded, encoded
from zebra_assets.datasets.seen import Marks, Masks, Question, marks
from zebra_assets.datasets.split import SplitPlan
from zebra_assets.datasets.stream import Block
from zebra_assets.datasets.summary import Summary
from zebra_assets.datasets.validate import examine
from zebra_assets.errors import DataInvalid


@dataclass(frozen=True)
class Piece:
    """One split's rows of one block, as a Parquet file that is ready to become a blob."""

    split: SplitName
    block: int
    digest: str
    bytes: int
    rows: int

    @property
    def key(self) -> str:
        """Its key in the object store."""
        return blob_key(self.digest)


@dataclass
class Done:
    """What a block came to. Small: its rows are in files."""

    number: int
    rows: int
    digest: str
    pieces: list[Piece]
    findings: Findings
    summary: Summary
    marks: Marks = field(default_factory=list)
    """Row hashes, for what only the whole can answer."""
    order: bytes = b""
    """Each row's piece, a byte a row, where such questions are asked."""


class Together:
    """A summary that several threads add to, each to another column."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.summary = Summary(spec)
        self._locks = {name: Lock() for name in self.summary.names}

    def add(self, rows: pa.Table) -> Summary:
        """The summary, with these rows in it."""
        left = deque(self._locks if rows.num_rows else ())
        while left:
            name = left.popleft()
            if self._locks[name].acquire(blocking=not left):  # one that is taken comes later
                try:
                    self.summary.add_column(name, rows[name])
                finally:
                    self._locks[name].release()
            else:
                left.append(name)
        return self.summary


@dataclass(frozen=True)
class Job:
    """How blocks of one ingest are worked on.

    Args:
        folder: where pieces are written, each under its digest.
        asked: what only the whole can answer.
        store: where pieces go at once, for workers whose disk nobody else sees; None leaves them in the folder.
        together: one summary for all blocks, for workers that share memory: merging one per block costs as much as making it.
    """

    spec: DatasetSpec
    plan: SplitPlan
    folder: Path
    asked: list[Question]
    store: ObjectStore | None = None
    together: "Together | None" = None

    def __call__(self, block: Block) -> Done:
        spec, block = self.spec, replace(block, rows=block.rows.combine_chunks())
        whole = coded(block.rows)
        findings = examine(block.rows, spec, first_row=block.first_row, came_from=block.came_from, before=block.before, coded=whole)
        masks = self._divided(block, findings)
        rows = {name: whole.filter(mask) for name, mask in masks.items()}
        summary = (self.together or Together(spec)).add(rows["train"])
        pieces = [self._write(block.number, name, table) for name, table in rows.items() if table.num_rows]
        done = Done(block.number, block.rows.num_rows, block_digest(block.rows), pieces, findings, summary)
        if self.asked:
            done.marks = marks(block.rows, self.asked, first_row=block.first_row, masks=masks)
            done.order = np.argmax([truths(mask) for mask in masks.values()], axis=0).astype(np.uint8).tobytes()
        return done

    def _divided(self, block: Block, findings: Findings) -> Masks:
        try:
            return self.plan.assign(block.rows, block.first_row)
        except DataInvalid:
            if not findings.broken:
                raise
            # The whole will be refused with all that is broken; until then its rows must be somewhere.
            return {"train": pa.array(np.ones(block.rows.num_rows, dtype=bool))}

    def _write(self, number: int, split: SplitName, rows: pa.Table) -> Piece:
        data = encoded(rows, self.spec)
        piece = Piece(split, number, hashlib.sha256(data).hexdigest(), data.size, rows.num_rows)
        path = self.folder / f"{piece.digest}.parquet"
        path.unlink(missing_ok=True)  # of an earlier block with the same rows, and read-only once it was prepared
        direct.write(path, memoryview(data))
        if self.store is not None:
            self.store.put(piece.key, path)
            path.unlink()
        return piece
