"""Gzip and zstd to a plain file, and the caps that keep a bomb from going off there or in a columnar file.

Text is unpacked once, into scratch, so that every reader sees a plain file and a torn one is found before its first row
is used. 97 kB that unpack to 100 MB are refused after 32 MiB, in 0.1 s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zebra_assets.errors import DataInvalid, Unavailable

PACKED = {".gz": "gzip", ".zst": "zstd"}
CHUNK = 1 << 20
# Below this nothing is refused for its ratio: rows of text pack 5 to 20 times, one repeated row a few hundred times.
FREE_BYTES = 32 << 20


@dataclass
class Caps:
    """What is left of the bytes that one reading may make of its files.

    Args:
        left: bytes, over all files.
        most: what `left` began with, for messages.
        ratio: most bytes that one byte of a file may become.
        columns: most columns that a file may have.
    """

    left: int
    most: int
    ratio: int
    columns: int

    def spend(self, made: int, total: int, packed: int, where: str) -> None:
        """Account for ``made`` more bytes of a file of ``packed`` bytes, ``total`` so far.

        Raises:
            DataInvalid: more than may be.
        """
        self.left -= made
        if total > FREE_BYTES and total > packed * self.ratio:
            enough = max(self.ratio * 10, 2 * total // max(packed, 1))
            raise DataInvalid(
                f"{where} swells: its {packed:,} bytes become {total:,} and more; beyond {self.ratio} times as many it counts as a bomb.",
                fix=f"if the file is what it should be, set source.parameters.max_ratio: {enough}",
            )
        if self.left < 0:
            raise DataInvalid(f"{where}: the source has more than {self.most:,} bytes.", fix="raise source.parameters.max_bytes")

    def width(self, columns: int, where: str) -> None:
        """Raise `DataInvalid` where a file has more columns than may be."""
        if columns > self.columns:
            raise DataInvalid(
                f"{where} has {columns:,} columns; more than {self.columns:,} are refused.",
                fix="write out the columns that you need, or raise source.parameters.max_columns",
            )


def unpack(file: Path, packing: str, target: Path, caps: Caps, where: str) -> Path:
    """Write what ``file`` holds to ``target``.

    Raises:
        DataInvalid: more bytes than ``caps`` allow.
        Unavailable: no room for them.
        pa.ArrowException, OSError: torn, or not packed that way.
    """
    total = 0
    import pyarrow as pa

    with pa.OSFile(str(file), "rb") as packed, pa.CompressedInputStream(packed, packing) as source, target.open("wb") as out:
        while piece := source.read(CHUNK):
            total += len(piece)
            caps.spend(len(piece), total, packed.tell(), where)  # by what was read so far: 10 MB need not become 2 GB first
            keep(out.write, piece, where)
    return target


def keep(write: Callable[[bytes], int], piece: bytes, where: str) -> None:
    """Write a piece to scratch; a full disk is no fault of the data."""
    try:
        write(piece)
    except OSError as error:
        raise Unavailable(
            f"{where} cannot be kept while it is read: {error}.", fix="make room in the temporary folder, or set TMPDIR"
        ) from error
