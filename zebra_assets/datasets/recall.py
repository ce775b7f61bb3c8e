"""Rows that were worked on, read again by their position, for the few that messages show.

Questions that only the whole can answer (`seen`) come back with positions; a block's rows are in its pieces, in scratch or
already in the store. Called by `ingest`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.datasets.blocks import BLOCK_ROWS
from zebra_assets.datasets.cells import numbers
from zebra_assets.datasets.spill import Companions
from zebra_assets.datasets.stream import Block
from zebra_assets.datasets.work import Done, Piece


class Origins:
    """Where each row stood in the source, when rows were sorted: 8 bytes a row, on disk."""

    def __init__(self, folder: Path) -> None:
        self._path, self._any = folder / "origins", False

    def noting(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The same blocks; on their way the positions their rows came from are written down."""
        with self._path.open("wb") as out:
            for block in blocks:
                if block.came_from is not None:
                    self._any = True
                    out.write(numbers(block.came_from).tobytes())
                yield block

    def __call__(self, rows: Companions) -> Companions:
        """Positions in the source of the rows at these canonical positions."""
        return np.asarray(np.memmap(self._path, "<i8", "r")[rows]) if self._any else rows


class Recall:
    """Rows at canonical positions."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self._folder, self._store = folder, store
        self._pieces: dict[int, list[Piece]] = {}
        self._order: dict[int, bytes] = {}

    def note(self, done: Done) -> None:
        """Remember where a block's rows are: which pieces, and which row is in which."""
        self._pieces[done.number] = done.pieces
        self._order[done.number] = done.order

    def __call__(self, rows: Companions) -> pa.Table:
        """The rows at ascending canonical positions, in that order."""
        found = []
        for number in np.unique(rows // BLOCK_ROWS):
            found.append(self._block(int(number)).take(pa.array(rows[rows // BLOCK_ROWS == number] % BLOCK_ROWS)))
        return pa.concat_tables(found)

    def _block(self, number: int) -> pa.Table:
        pieces = self._pieces[number]
        table = pa.concat_tables(pq.read_table(self._file(piece)) for piece in pieces)
        # Row i of the pieces, one after another, stands at places[i] of the block: sorted by piece, stably.
        places = np.argsort(np.frombuffer(self._order[number], np.uint8), kind="stable")
        return table.take(pa.array(np.argsort(places)))

    def _file(self, piece: Piece) -> Path:
        path = self._folder / f"{piece.digest}.parquet"
        return path if path.is_file() else self._store.fetch(piece.key)
