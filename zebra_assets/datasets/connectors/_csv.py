"""CSV and TSV, read as text columns in a stream: `table` casts, so every wrong cell can be told in one go.

An empty cell is null. A quoted empty cell ("") is the empty text, and null for other dtypes: pandas and Arrow write
null and empty text that way, and without the difference CSV and Parquet of the same rows would differ.
"""

import csv
import gzip
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as pacsv

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import match_columns
from zebra_assets.errors import DataInvalid

BLOCK_BYTES = 8 << 20


def read(file: Path, columns: Mapping[str, Dtype], where: str, delimiter: str) -> Iterator[pa.RecordBatch]:
    """Batches of text columns.

    Raises:
        DataInvalid: lines with another number of cells than the header (count and up to five), not UTF-8, no header.
    """
    wanted = match_columns(header(file, where, delimiter), columns, where)
    bad: list[str] = []

    def note(row: pacsv.InvalidRow) -> str:
        bad.append(f"{row.actual_columns} cells instead of {row.expected_columns}: {_clip(row.text)}")
        return "skip"

    convert = pacsv.ConvertOptions(
        include_columns=wanted,
        column_types=dict.fromkeys(wanted, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
    try:
        reader = pacsv.open_csv(file, pacsv.ReadOptions(block_size=BLOCK_BYTES), parse, convert)
        yield from reader
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise DataInvalid(f"{where} is not UTF-8: {error}", fix=f"iconv -f latin1 -t utf-8 {file} > {file}.new") from error
        raise
    if bad:
        shown = "\n  ".join(bad[:5])
        raise DataInvalid(
            f"{where}: {len(bad):,} lines do not have the header's number of cells:\n  {shown}",
            fix="quote cells that contain the delimiter or a line break, or set source.parameters.delimiter",
        )


def header(file: Path, where: str, delimiter: str) -> list[str]:
    """Column names: the first record, without a byte order mark."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
            names = next(csv.reader(text, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataInvalid(f"{where} is not UTF-8 text: {error}.", fix="save the file as UTF-8") from error
    if not any(names):
        raise DataInvalid(f"{where} has no header line.", fix="write the column names into the first line")
    return names


def _clip(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
