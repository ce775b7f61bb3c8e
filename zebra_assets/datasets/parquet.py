"""How rows are stored: one Parquet file, each column encoded as its kind of values is kept best.

Called by `work`, for each split of each block. Reading needs nothing of this, only a reader that knows the encodings
DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY and BYTE_STREAM_SPLIT, as Arrow and DuckDB do.

Per 46,000 rows of card transactions (15 columns, one thread), against zstd 1 on plain pages for all of them:

| column | plain, zstd 1 | here |
|---|---|---|
| ascending int64 key | 1.19 ms, 49 KB | deltas 0.35 ms, 19 KB |
| ascending timestamp | 1.59 ms, 149 KB | deltas 0.46 ms, 123 KB |
| small int64 | 0.94 ms, 39 KB | deltas 0.36 ms, 44 KB |
| four float64 | 5.23 ms, 922 KB | bytes apart, snappy: 1.38 ms, 1,318 KB |
| text of 20,000 different values | 3.49 ms, 162 KB | a dictionary, snappy: 2.61 ms, 210 KB |
| text of 36 random characters | 5.46 ms, 914 KB | lengths apart, zstd 1: 2.97 ms, 853 KB |
| ascending text of 12 characters | 1.29 ms, 15 KB | beginnings apart, zstd 1: 1.69 ms, 6 KB |
"""

from itertools import pairwise, takewhile
from operator import eq

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.cells import one
from zebra_assets.datasets.table import schema_of

SAMPLE = 1024
LOOKED_AT = 64  # texts that tell whether neighbours begin alike
# Below this share of distinct texts in a sample a dictionary pays: 15,000 different merchants in 46,000 rows, 0.85 of a sample, take
# 3.3 ms by it and 4.6 ms by zstd, and as many bytes. On numbers and keys it costs 3 times the time.
REPEATED = 0.9


def encoded(rows: pa.Table, spec: DatasetSpec) -> pa.Buffer:
    """The rows as the bytes of a Parquet file; equal rows are equal bytes while the library's version is the same.

    Args:
        rows: text that repeats is dictionary-encoded (`coded`). A file has the words of its own rows only, whoever else's were in the
            dictionary, and reads back as plain text.

    Whole numbers, dates and times as bit-packed deltas without a codec, floats as a stream per byte (their exponents are
    alike, their last digits are not), texts as a dictionary where they repeat. Text that does not repeat goes by zstd 1, ids apart
    from their lengths, which stand between random characters and cost the codec half of its time; what is left by snappy. Smallest
    and largest value are kept per column that has an order worth asking for: finding them takes half of the time of writing a
    column of few different texts.
    """
    repeated = [f.name for f in rows.schema if pa.types.is_dictionary(f.type)]
    for i, field in enumerate(rows.schema):
        if field.name in repeated:
            rows = rows.set_column(i, field, _own(one(rows.column(i))))
    whole = [f.name for f in rows.schema if pa.types.is_integer(f.type) or pa.types.is_temporal(f.type)]
    floats = [f.name for f in rows.schema if pa.types.is_floating(f.type)]
    once = [f.name for f in rows.schema if f.type == pa.string() and f.name not in repeated]
    codec = dict.fromkeys(rows.column_names, "snappy") | dict.fromkeys(whole, "none") | dict.fromkeys(once, "zstd")
    out = pa.BufferOutputStream()
    pq.write_table(
        rows.cast(_stored(rows, spec)),
        out,
        compression=codec,
        compression_level=dict.fromkeys(once, 1),
        use_dictionary=repeated,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED")
        | dict.fromkeys(floats, "BYTE_STREAM_SPLIT")
        | {name: _apart(rows[name]) for name in once},
        store_schema=False,  # Parquet's own types say it all, and text is text whichever way it was handed over
        write_statistics=[*whole, *floats, *(name for name in spec.key if name in rows.column_names)],
    )
    return out.getvalue()


def _stored(rows: pa.Table, spec: DatasetSpec) -> pa.Schema:
    """The recipe's schema; where a column breaks its promise to have no nulls, the whole will say so, and this goes on."""
    fields = zip(rows.schema, schema_of(spec), strict=True)
    return pa.schema([f.with_nullable(said.nullable or rows[f.name].null_count > 0) for f, said in fields])


def coded(rows: pa.Table) -> pa.Table:
    """The rows of a block with text that repeats dictionary-encoded, by a sample from the front.

    Once, before rows are divided, counted and stored: each of these would look up every text again. Takes 5.6 ms of the 60 that a
    block of card transactions needs, and saves 9.
    """
    sample = min(SAMPLE, rows.num_rows)
    for i, field in enumerate(rows.schema):
        if field.type == pa.string() and pc.count_distinct(rows[field.name].slice(0, sample), mode="all").as_py() <= REPEATED * sample:
            texts = rows.column(i).dictionary_encode()
            rows = rows.set_column(i, field.with_type(texts.type), texts)
    return rows


def _own(texts: pa.DictionaryArray) -> pa.DictionaryArray:
    """With the words of these rows only, in the order in which they come."""
    used = texts.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(used.indices, texts.dictionary.take(used.dictionary))


def _apart(texts: pa.ChunkedArray) -> str:
    """What is kept apart of texts that do not repeat, by a few from the front: of ascending ones what each begins with like the one
    before, of ids of one length the lengths, of others nothing."""
    first = [text for text in texts.slice(0, LOOKED_AT).to_pylist() if text is not None]
    alike = sum(1 for a, b in pairwise(first) for _ in takewhile(bool, map(eq, a, b)))
    if 2 * alike > sum(map(len, first)):
        return "DELTA_BYTE_ARRAY"
    return "DELTA_LENGTH_BYTE_ARRAY" if len(set(map(len, first))) == 1 else "PLAIN"
