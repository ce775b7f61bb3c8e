"""The benchmark's rows: card transactions, 15 columns of mixed types, about 150 bytes of CSV each.

    python -m benchmarks.ingest.data OUT.csv --rows 1000000 [--start 0] [--append] [--shuffled]

A row is a pure function of its number, so the same rows come out in any order, in any chunk and on any machine, and a file
grows by writing the numbers that follow. Memory stays at one chunk (about 200 MB) whatever the size. Runs as a process of
its own: the harness that measures others must stay small.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.ingest.peers.columns import CATEGORIES, COLUMNS, COUNTRIES, STATUSES

CHUNK = 1 << 18
MERCHANTS = 20_000
FIRST_ID = 1_000_000_000  # so that every row's key has ten digits, and the bytes of a row do not depend on its number
FIRST_SECOND = 1_704_067_200  # 2024-01-01
_NAMES = "Alder Birch Cedar Dorn Elm Fir Grove Hazel Iris Juniper Kern Linden Maple Nettle Oak Pine Quince Rowan Sage Thorn"
_TRADES = ["Bakery", "Books", "& Sons", "Café", "Energy", "Foods", "GmbH", "Hotel", "Market", "Motors", "Outfitters", "Pharmacy"]
Numbers = np.ndarray


def noise(row: Numbers, stream: int) -> Numbers:
    """64 random bits for each row number: splitmix64 of (row, stream)."""
    x = (row.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64((stream + 1) * 0xD1B54A32D192ED03 & (2**64 - 1))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def below(row: Numbers, stream: int, most: int) -> Numbers:
    """An integer in [0, most) for each row."""
    return (noise(row, stream) % np.uint64(most)).astype(np.int64)


def skewed(row: Numbers, stream: int, most: int) -> Numbers:
    """An integer in [0, most), small ones far more often: the cube of a uniform number."""
    return (((noise(row, stream) >> np.uint64(11)) / 2.0**53) ** 3 * most).astype(np.int64)


def decimals(units: Numbers, places: int) -> pa.Array:
    """``units`` / 10**places as exact decimals, which print like a ledger's: 12.50."""
    words = np.column_stack([units, units >> 63])  # a 128-bit integer, low word first
    return pa.Array.from_buffers(pa.decimal128(18, places), len(units), [None, pa.py_buffer(words.tobytes())])


def chosen(index: Numbers, words: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), pa.array(words)).dictionary_decode()


def merchants() -> list[str]:
    """20,000 names; one in twelve contains a comma and needs quotes."""
    names = _NAMES.split()
    n = len(names)
    return [
        f"{names[i % n]}{',' if i % 12 == 2 else ''} {names[i // n % n]} {_TRADES[i % 12]} {i // (n * n):02d}" for i in range(MERCHANTS)
    ]


def references(row: Numbers) -> pa.Array:
    """A UUID's 36 characters for each row."""
    raw = np.column_stack([noise(row, 90), noise(row, 91)]).view(np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    hexed = np.empty((len(row), 32), np.uint8)
    hexed[:, 0::2], hexed[:, 1::2] = digits[raw >> 4], digits[raw & 15]
    dash = np.full((len(row), 1), ord("-"), np.uint8)
    text = np.hstack([hexed[:, :8], dash, hexed[:, 8:12], dash, hexed[:, 12:16], dash, hexed[:, 16:20], dash, hexed[:, 20:]])
    offsets = np.arange(len(row) + 1, dtype=np.int32) * 36
    return pa.Array.from_buffers(pa.string(), len(row), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(text.tobytes())])


def table(row: Numbers) -> pa.Table:
    """The rows with these numbers, as the CSV will say them."""
    row = row.astype(np.int64)
    seconds = FIRST_SECOND + 2 * row + below(row, 1, 2)
    days = (seconds // 86_400 + below(row, 2, 3)).astype(np.int32)
    columns: dict[str, pa.Array] = {
        "transaction_id": pa.array(FIRST_ID + 3 * row + below(row, 0, 3)),
        "created_at": pa.array(seconds, pa.timestamp("s")),
        "booked_on": pa.array(days, pa.int32()).cast(pa.date32()),
        "amount": decimals(1 + skewed(row, 3, 500_000), 2),
        "fee": holed(decimals(skewed(row, 4, 90_000), 4), row, 14),
        "rate": decimals(500_000 + below(row, 5, 1_000_000), 6),
        "risk": holed(decimals(below(row, 6, 100_001), 5), row, 16),
        "items": holed(pa.array(1 + skewed(row, 7, 40)), row, 17),
        "country": chosen(skewed(row, 8, len(COUNTRIES)), COUNTRIES),
        "category": holed(chosen(below(row, 9, len(CATEGORIES)), CATEGORIES), row, 19),
        "status": chosen(skewed(row, 10, len(STATUSES)), STATUSES),
        "merchant": chosen(skewed(row, 11, MERCHANTS), merchants()),
        "reference": references(row),
        "online": pa.array(below(row, 12, 10) < 6),
        "disputed": pa.array(below(row, 13, 100) < 3),
    }
    return pa.table({name: columns[name] for name in COLUMNS})


def holed(values: pa.Array, row: Numbers, stream: int) -> pa.Array:
    """``values`` with one cell in fifty null."""
    import pyarrow.compute as pc

    return pc.if_else(pa.array(below(row, stream, 50) == 0), pa.scalar(None, values.type), values)


def ordered(start: int, stop: int) -> Iterator[Numbers]:
    """The numbers from ``start`` up to ``stop``, a chunk at a time."""
    for low in range(start, stop, CHUNK):
        yield np.arange(low, min(low + CHUNK, stop))


def shuffled(rows: int) -> Iterator[Numbers]:
    """Each number below ``rows`` once, in no order, without holding them: a bijection of the next power of two, walked through."""
    bits = max(rows - 1, 1).bit_length()
    mask, half = np.uint64((1 << bits) - 1), np.uint64(bits // 2 + 1)
    for low in range(0, 1 << bits, CHUNK):
        x = np.arange(low, min(low + CHUNK, 1 << bits), dtype=np.uint64)
        for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
            x = x * np.uint64(odd) & mask
            x ^= x >> half
        yield x[x < np.uint64(rows)]


def write(out: Path, numbers: Iterator[Numbers], *, append: bool = False) -> int:
    """Write the rows with these numbers as CSV and return how many; ``append`` adds them to what is there, without a header."""
    import duckdb

    part, count = out.with_suffix(".part"), 0
    with duckdb.connect() as base, out.open("ab" if append else "wb") as file:
        if not append:
            file.write((",".join(COLUMNS) + "\n").encode())
        for row in numbers:
            base.register("chunk", table(row))
            base.execute(f"COPY chunk TO '{part}' (FORMAT csv, HEADER false)")  # quotes only what needs quotes
            file.write(part.read_bytes())
            count += len(row)
    part.unlink()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, required=True, help="write the rows from --start up to this number")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--shuffled", action="store_true")
    given = parser.parse_args()
    write(given.out, shuffled(given.rows) if given.shuffled else ordered(given.start, given.rows), append=given.append)


if __name__ == "__main__":
    main()
