"""What the pages of a Parquet file say of themselves, read without unpacking any: the footer is only what a writer claims.

Arrow believes both and allocates what a page header asks for, so the headers are added up before Arrow opens a column.
A header is a struct in Thrift's compact protocol (thrift/doc/specs/thrift-compact-protocol.md, parquet.thrift: PageHeader).
Reading one takes 15 µs; there is about one per MB. Called by `_columnar`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from zebra_assets.errors import DataInvalid

DATA, DICTIONARY, DATA_V2 = 0, 2, 3
_DICTIONARY_ENCODINGS = (2, 8)
_HEADER_BYTES = (4 << 10, 16 << 20)  # statistics may hold a long value
_DEPTH = 8


@dataclass(frozen=True)
class Page:
    """One page: kind, values, bytes when unpacked, and whether its values are numbers of dictionary entries."""

    kind: int
    values: int
    unpacked: int
    indices: bool


def pages(file: BinaryIO, size: int, chunk: pq.ColumnChunkMetaData, where: str) -> Iterator[Page]:
    """The pages of one column chunk.

    Raises:
        DataInvalid: the chunk leaves the file, or a header is none.
    """
    starts = [chunk.data_page_offset] + ([chunk.dictionary_page_offset] if chunk.has_dictionary_page else [])
    at = min(start for start in starts if start is not None)
    end = at + chunk.total_compressed_size
    if not chunk.num_values:  # no offsets either
        return
    if at < 4 or chunk.total_compressed_size < 0 or end > size:
        raise _lies(where, f"column {chunk.path_in_schema} leaves the file")
    while at < end:
        header, length = _header(file, at, where)
        packed, unpacked = header.get(3), header.get(2)
        if not isinstance(packed, int) or not isinstance(unpacked, int) or packed < 0 or unpacked < 0:
            raise _lies(where, f"a page of column {chunk.path_in_schema} has no size")
        kind: int = header.get(1, -1)
        of_kind = header.get({DATA: 5, DICTIONARY: 7, DATA_V2: 8}.get(kind, 0)) or {}
        encoding = of_kind.get(4 if kind == DATA_V2 else 2)
        yield Page(kind, of_kind.get(1, 0), unpacked, kind != DICTIONARY and encoding in _DICTIONARY_ENCODINGS)
        at += length + packed


def _lies(where: str, what: str) -> DataInvalid:
    return DataInvalid(f"{where} cannot be read as parquet: {what}, whatever its footer says.", fix="write the file again")


def _header(file: BinaryIO, at: int, where: str) -> tuple[dict[int, Any], int]:
    for most in _HEADER_BYTES:
        file.seek(at)
        data = file.read(most)
        try:
            return _struct(data, 0, _DEPTH)
        except (IndexError, RecursionError):  # longer than what was read
            continue
        except ValueError as error:
            raise _lies(where, str(error)) from error
    raise _lies(where, f"no page begins at byte {at:,}")


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """A struct's fields by number, and the position behind it."""
    if not depth:
        raise ValueError("a page header is nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step:
            number += step
        else:
            number, at = _zigzag(data, at)
        fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _zigzag(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(data, at)
        data[at + length - 1 if length else at]
        return None, at + length
    if kind == 12:
        return _struct(data, at, depth - 1)
    raise ValueError("a page header holds what none may hold")  # page headers know neither lists nor maps


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number in a page header has no end")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
