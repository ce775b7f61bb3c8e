"""How many bytes the record batches of an Arrow IPC file become, read from their headers without unpacking any.

A packed buffer begins with its length when unpacked, and Arrow allocates what it says. The headers are flatbuffers of
which three fields count (arrow/format/Message.fbs). The file form is the stream form behind eight bytes and before a
footer, so one walk reads both. Called by `_columnar`.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from zebra_assets.errors import DataInvalid

MAGIC = b"ARROW1\0\0"
_CONTINUED = 0xFFFFFFFF
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_MOST_HEADER = 64 << 20


def unpacked_bodies(file: Path, where: str) -> Iterator[int]:
    """For each batch, dictionaries among them, the bytes that its body becomes.

    Raises:
        DataInvalid: the file is not in Arrow's format, or breaks off.
    """
    size = file.stat().st_size
    with file.open("rb") as source:
        if source.read(8) != MAGIC:
            source.seek(0)
        try:
            while header := _message(source, size):
                body = source.tell()
                kind, length, buffers = _describe(header)
                if length < 0 or body + length > size:
                    raise ValueError("a body leaves the file")
                if kind in (_RECORD_BATCH, _DICTIONARY_BATCH):
                    yield sum(_unpacked(source, body, length, *one) for one in buffers)
                source.seek(body + length)
        except (struct.error, IndexError, ValueError) as error:
            raise DataInvalid(f"{where} cannot be read as arrow: {error}.", fix="write the file again") from error


def _message(source: BinaryIO, size: int) -> bytes | None:
    prefix = source.read(4)
    if len(prefix) < 4:
        return None
    length = struct.unpack("<I", prefix)[0]
    if length == _CONTINUED:
        length = struct.unpack("<I", source.read(4))[0]
    if not length:
        return None
    if length > _MOST_HEADER or source.tell() + length > size:
        raise ValueError("a header leaves the file")
    return source.read(length)


def _describe(data: bytes) -> tuple[int, int, list[tuple[int, int]]]:
    """A message's kind, the length of its body, and the (offset, length) of its buffers if they are packed."""
    root = struct.unpack_from("<I", data)[0]
    kind = _scalar(data, root, 1, "<B")
    length = _scalar(data, root, 3, "<q")
    at = _child(data, root, 2)
    if kind == _DICTIONARY_BATCH and at:
        at = _child(data, at, 1)
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH) or not at:
        return kind, length, []
    vector, packed = _child(data, at, 2), _field(data, at, 3)
    if not vector:
        return kind, length, []
    count = struct.unpack_from("<I", data, vector)[0]
    if count * 16 > len(data):
        raise ValueError("a header has more buffers than bytes")
    buffers = [struct.unpack_from("<qq", data, vector + 4 + 16 * i) for i in range(count)]
    return kind, length, [(offset, size if packed else -size) for offset, size in buffers]


def _unpacked(source: BinaryIO, body: int, length: int, offset: int, size: int) -> int:
    """Bytes of one buffer; ``size`` is negative where buffers are not packed."""
    if offset < 0 or offset + abs(size) > length:
        raise ValueError("a buffer leaves its body")
    if size < 8:
        return abs(size)
    source.seek(body + offset)
    said: int = struct.unpack("<q", source.read(8))[0]
    if said < -1:
        raise ValueError("a buffer has no length")
    return size if said == -1 else said


def _field(data: bytes, table: int, number: int) -> int:
    """Where a flatbuffer table keeps a field, 0 where it has none."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise ValueError("a header is none")
    slots = struct.unpack_from("<H", data, vtable)[0]
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + at)[0] if at < slots else 0
    return table + offset if offset else 0


def _scalar(data: bytes, table: int, number: int, form: str) -> int:
    at = _field(data, table, number)
    return int(struct.unpack_from(form, data, at)[0]) if at else 0


def _child(data: bytes, table: int, number: int) -> int:
    at = _field(data, table, number)
    return at + struct.unpack_from("<I", data, at)[0] if at else 0
