"""CSV and TSV in a stream, parsed straight into the recipe's dtypes; as text where that fails, so `table` can tell every cell.

An empty cell is null. A quoted empty cell ("") is the empty text, and null for other dtypes: pandas and Arrow write
null and empty text that way, and without the difference CSV and Parquet of the same rows would differ.

Both ways read the same values (a test compares them over generated cells); text takes longer, for each cell is cast once more.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as pacsv

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import match_columns
from zebra_assets.datasets.dtypes import ARROW, ZONED
from zebra_assets.errors import DataInvalid

BLOCK_BYTES = 1 << 20  # Arrow reads 32 blocks ahead. 1 GB takes 430 MB and 8.4 s so; by 2 MB 500 MB and 8.8 s, by 512 KB 10.1 s
LONGEST = 6 << 20  # a record may be so long; files with one beyond BLOCK_BYTES are read in blocks of this size
HEAD_BYTES = 1 << 20
SHOWN = 5
MOST_BAD = 10_000  # lines; Arrow asks about each in Python: a million took 28 s on a busy machine
SNIFFED = 100  # records that tell whether a column of timestamps carries zones; where later ones differ, all are read as text


def read(file: Path, columns: Mapping[str, Dtype], where: str, delimiter: str) -> Iterator[pa.RecordBatch]:
    """Batches in the recipe's dtypes, or of text columns.

    Raises:
        DataInvalid: lines with another number of cells than the header (count and up to five), not UTF-8, no header.
    """
    wanted = match_columns(header(file, where, delimiter), columns, where)
    given = 0
    kinds = {name: ARROW[columns[name]] for name in wanted} | _clocks(file, columns, delimiter)
    try:
        for batch in _parse(file, kinds, where, delimiter):
            yield batch
            given += batch.num_rows
        return
    except pa.ArrowInvalid as error:
        long = "straddling" in str(error)
        if not long and "conversion error" not in str(error):
            raise
    pa.default_memory_pool().release_unused()  # what the first way read ahead: 50 MB that the second does not take up
    if long:
        _refuse_longer(file, where, delimiter)
    texts = dict.fromkeys(wanted, pa.string())
    yield from _skip(_parse(file, texts, where, delimiter, LONGEST if long else BLOCK_BYTES), given)


def _parse(
    file: Path, kinds: Mapping[str, pa.DataType], where: str, delimiter: str, block_bytes: int = BLOCK_BYTES
) -> Iterator[pa.RecordBatch]:
    count, bad = 0, list[str]()

    def note(row: pacsv.InvalidRow) -> str:
        nonlocal count
        count += 1
        if count <= SHOWN:
            bad.append(f"{row.actual_columns} cells instead of {row.expected_columns}: {_clip(row.text)}")
        return "skip" if count < MOST_BAD else "error"

    convert = pacsv.ConvertOptions(
        include_columns=list(kinds),
        column_types=dict(kinds),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
    try:
        how = pacsv.ReadOptions(block_size=block_bytes, use_threads=block_bytes == BLOCK_BYTES)
        yield from pacsv.open_csv(file, how, parse, convert)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise DataInvalid(f"{where} is not UTF-8: {error}", fix=f"iconv -f latin1 -t utf-8 {file} > {file}.new") from error
        if "straddling" in str(error) and block_bytes == LONGEST:
            raise _too_long(file, where) from error
        if count < MOST_BAD:
            raise
    if bad:
        shown = "\n  ".join(bad)
        raise DataInvalid(
            f"{where}: {'at least ' if count >= MOST_BAD else ''}{count:,} lines do not have the header's number of cells:\n  {shown}",
            fix="quote cells that contain the delimiter or a line break, or set source.parameters.delimiter",
        )


def _refuse_longer(file: Path, where: str, delimiter: str) -> None:
    """Look for a record beyond LONGEST before Arrow does, which reads up to 32 blocks of that size ahead of what it parses."""
    pending = 0

    def lines(text: io.TextIOWrapper) -> Iterator[str]:
        nonlocal pending
        while line := text.readline(LONGEST + 1):
            pending += len(line)
            if pending > LONGEST:
                raise _too_long(file, where)
            if pending > len(line):  # asked for more of a record, so within quotes, where only a single quote matters:
                line = line.replace('""', "")  # the reader would keep all else, at four bytes a character
                if '"' not in line:
                    continue
            yield line

    limit = csv.field_size_limit(LONGEST)
    try:
        with pa.input_stream(str(file), compression="detect") as raw, suppress(csv.Error):  # Arrow has the better words
            for _ in csv.reader(lines(io.TextIOWrapper(raw, "latin-1", newline="")), delimiter=delimiter):
                pending = 0
    finally:
        csv.field_size_limit(limit)


def _too_long(file: Path, where: str) -> DataInvalid:
    said = f"{where}: a line is longer than {LONGEST:,} bytes, or a quote is never closed."
    return DataInvalid(said, fix=f"look for it: head -c 300 {file}")


def _skip(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """What comes after the first ``rows`` rows."""
    for batch in batches:
        if rows < batch.num_rows:
            yield batch.slice(rows)
        rows = max(rows - batch.num_rows, 0)


def _clocks(file: Path, columns: Mapping[str, Dtype], delimiter: str) -> dict[str, pa.DataType]:
    """For each column of timestamps: with a zone or without, by the first records."""
    stamps = [name for name, dtype in columns.items() if dtype == "timestamp"]
    if not stamps:
        return {}
    text = io.StringIO(_head(file).decode("utf-8-sig", errors="replace"), newline="")
    try:
        records = list(islice(csv.DictReader(text, delimiter=delimiter), SNIFFED))
    except csv.Error:  # a cell beyond 128 KiB; the parser itself takes it
        records = []
    zoned = {name: any(re.search(ZONED, str(record.get(name) or "")) for record in records) for name in stamps}
    return {name: pa.timestamp("us", tz="UTC") if zoned[name] else pa.timestamp("us") for name in stamps}


def header(file: Path, where: str, delimiter: str) -> list[str]:
    """Column names: the first record, without a byte order mark.

    Raises:
        DataInvalid: no header line, one beyond 1 MiB, or not UTF-8.
    """
    head = _head(file)
    if len(head) == HEAD_BYTES and b"\n" not in head and b"\r" not in head:
        raise DataInvalid(f"{where}: the first line is longer than {HEAD_BYTES:,} bytes.", fix=f"is it text? head -c 300 {file}")
    try:
        names = next(csv.reader(io.StringIO(head.decode("utf-8-sig"), newline=""), delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataInvalid(f"{where} is not UTF-8 text: {error}.", fix="save the file as UTF-8") from error
    if not any(names):
        raise DataInvalid(f"{where} has no header line.", fix="write the column names into the first line")
    return names


def _head(file: Path) -> bytes:
    """The first lines: up to 1 MiB, cut after the last line end in it."""
    with pa.input_stream(str(file), compression="detect") as raw:
        head: bytes = raw.read(HEAD_BYTES)
    return head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head


def _clip(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
