"""An Arrow IPC body, refused by what it announces before any of its data is looked at.

Arrow opens compressed buffers and believes row counts as it reads; both are said in each message's head, a flatbuffer (Message.fbs
and Schema.fbs of the Arrow format), of which this file reads four fields. The file format is the stream format between two
magic words, so its footer, which could name one batch a thousand times, is never believed. Imported with the first Arrow body.
"""

import struct

import pyarrow as pa

from zebra_serving.problems import Malformed, TooLarge

_MAGIC = b"ARROW1\0\0"
_DICTIONARY, _BATCH = 2, 3
FIX = "send an uncompressed Arrow IPC stream, as pyarrow.ipc.new_stream writes it"


def opened(body: bytes, *, file: bool, max_rows: int) -> pa.RecordBatchStreamReader:
    """The reader of a body; of its data only the schema has been read.

    Raises:
        Malformed: no Arrow IPC, or a compressed one.
        TooLarge: it announces more than ``max_rows`` rows.
    """
    buffer = pa.py_buffer(body)
    if file:
        if not body.startswith(_MAGIC):
            raise Malformed("The body is no Arrow file.", fix=FIX)
        buffer = buffer.slice(len(_MAGIC))
    try:
        rows = sum(_announced(memoryview(message.metadata)) for message in pa.ipc.MessageReader.open_stream(buffer))
        reader = pa.ipc.open_stream(buffer)
    except (pa.ArrowException, OSError, ValueError, EOFError, struct.error) as error:
        raise no_arrow(error) from error
    if rows > max_rows:
        raise TooLarge(f"{rows:,} rows; {max_rows:,} is the limit of one Arrow request.", fix="send them in several requests")
    return reader


def whole(reader: pa.RecordBatchStreamReader) -> pa.RecordBatch:
    """All batches as one, every offset, index and text of it checked.

    Raises:
        Malformed: data that does not keep what it promised.
    """
    try:
        batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
        if len(batches) == 1:
            return batches[0]
        if not batches:
            return pa.RecordBatch.from_pylist([], reader.schema)
        return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise no_arrow(error) from error


def no_arrow(error: Exception) -> Malformed:
    """What to say of a body that Arrow cannot read."""
    said = (str(error).splitlines() or ["it ends too early"])[0]
    return Malformed(f"The body cannot be read as Arrow IPC: {said[:200].rstrip('.')}.", fix=FIX)


def _announced(head: memoryview) -> int:
    """The rows of the batch that a message brings, 0 for other messages. Raises `Malformed` for a compressed one."""
    message = _Table(head, struct.unpack_from("<I", head)[0])
    at = message.field(1)
    kind = head[at] if at else 0
    if kind not in (_DICTIONARY, _BATCH):
        return 0
    content = message.below(2)
    batch = content.below(1) if kind == _DICTIONARY else content
    if batch.field(3):
        raise Malformed("The body is compressed, which could make it any size.", fix=FIX)
    at = batch.field(0)
    rows: int = struct.unpack_from("<q", head, at)[0] if at else 0
    if rows < 0:
        raise ValueError("a batch of fewer than no rows")
    return rows if kind == _BATCH else 0


class _Table:
    """One table of a flatbuffer."""

    def __init__(self, data: memoryview, start: int) -> None:
        self._data, self._start = data, start
        self._fields = start - struct.unpack_from("<i", data, start)[0]
        self._size = struct.unpack_from("<H", data, self._fields)[0]

    def field(self, number: int) -> int:
        """Where a field's value is; 0 where it is left out."""
        place = 4 + 2 * number
        offset: int = struct.unpack_from("<H", self._data, self._fields + place)[0] if place < self._size else 0
        return offset and self._start + offset

    def below(self, number: int) -> "_Table":
        """The table that a field points to."""
        if not (at := self.field(number)):
            raise ValueError("a message without its content")
        return _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])
