"""64-bit hashes with a 64-bit companion each, more of them than memory holds, to be met again in ascending ranges.

A record's place is its hash's top byte, so equal hashes share one of 256 partitions, and the partitions ascend as hashes do.
Up to a million records stay in memory; each further million is sorted into its partitions and appended to one scratch file:
16 bytes a record on disk, about 40 MB of memory. Called by `seen` and `strata`; what the hashes mean is theirs.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zebra_assets.datasets.row_hash import Words
from zebra_assets.errors import Unavailable

Companions = np.ndarray[Any, np.dtype[np.int64]]
Records = tuple[Words, Companions]
RUN = 1 << 20  # records in memory before they are written, and most records of a partition met at once, roughly
_PARTITIONS = 256


class Spill:
    """Append records, then walk them partition by partition.

    Args:
        folder: where the scratch file goes; nothing is left in it after `close`, nor after a crash. None keeps all in memory.
    """

    def __init__(self, folder: Path | None, *, run: int = RUN) -> None:
        self.records = 0
        self._folder, self._run = folder, run
        self._held: list[Records] = []
        self._holding = 0
        self._file: BinaryIO | None = None
        self._runs: list[tuple[int, Companions]] = []  # where each run begins in the file, and where its partitions end

    def add(self, hashes: Words, companions: Companions) -> None:
        """Append one block's records.

        Raises:
            Unavailable: the scratch folder cannot be written.
        """
        if not len(hashes):
            return
        self._held.append((hashes, companions))
        self._holding += len(hashes)
        self.records += len(hashes)
        if self._folder is not None and self._holding >= self._run:
            self._write(self._folder)

    def partitions(self) -> Iterator[Iterator[Records]]:
        """Partitions with records in them, in ascending order of hashes, each as pieces of a few million records.

        Within a partition records come as they were added.
        """
        hashes, companions = _partitioned(self._held)
        last = _ends(hashes)
        for part in range(_PARTITIONS):
            start, stop = last[part], last[part + 1]
            if start < stop or any(ends[part] < ends[part + 1] for _, ends in self._runs):
                yield self._pieces(part, (hashes[start:stop], companions[start:stop]))

    def close(self) -> None:
        """Let go of the records."""
        self._held, self._holding, self._runs = [], 0, []
        if self._file is not None:
            self._file.close()
            self._file = None

    def _pieces(self, part: int, last: Records) -> Iterator[Records]:
        gathered, count = [], 0
        for begin, ends in self._runs:
            gathered.append(self._read(begin, ends, part))
            count += len(gathered[-1][0])
            if count >= self._run:
                yield _joined(gathered)
                gathered, count = [], 0
        yield _joined([*gathered, last])

    def _write(self, folder: Path) -> None:
        hashes, companions = _partitioned(self._held)
        try:
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 # `close` closes it
            begin = self._file.seek(0, os.SEEK_END)
            for array in (hashes, companions):
                view = array.data.cast("B")
                while len(view):  # a raw file may write less than all
                    view = view[self._file.write(view) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close()
            raise Unavailable(
                f"Scratch space for {self.records:,} row hashes in {folder} cannot be written: {error.strerror}.",
                fix=f"df -h {folder} # 16 bytes a row are needed; TMPDIR names another place",
            ) from error
        self._runs.append((begin, _ends(hashes)))
        self._held, self._holding = [], 0

    def _read(self, begin: int, ends: Companions, part: int) -> Records:
        assert self._file is not None
        start, count, records = int(ends[part]), int(ends[part + 1] - ends[part]), int(ends[-1])
        return (
            np.frombuffer(os.pread(self._file.fileno(), 8 * count, begin + 8 * start), np.uint64),
            np.frombuffer(os.pread(self._file.fileno(), 8 * count, begin + 8 * (records + start)), np.int64),
        )


def _joined(records: list[Records]) -> Records:
    if not records:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate([hashes for hashes, _ in records]), np.concatenate([companions for _, companions in records])


def _partitioned(held: list[Records]) -> Records:
    """The records by ascending top byte, otherwise as they came: a radix sort of bytes, 2 ms for a million."""
    hashes, companions = _joined(held)
    order = np.argsort((hashes >> np.uint64(56)).astype(np.uint8), kind="stable")
    return hashes[order], companions[order]


def _ends(hashes: Words) -> Companions:
    """Where each partition ends, with a 0 before the first."""
    counts = np.bincount((hashes >> np.uint64(56)).astype(np.int64), minlength=_PARTITIONS)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
