"""Which split a row belongs to: by default a hash of its key, so that it stays where it is when other rows come or go.

The hash is ours (`row_hashes`, splitmix64 over 64-bit words), because it must give the same split on every platform and
with every library version for as long as manifests live; tests hold its vectors. Called by `ingest`; whether splits leak into each
other is in `leaks`.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import SPLITS, SplitName, SplitSpec, moment
from zebra_assets.contracts.digest import sha256
from zebra_assets.errors import DataInvalid, did_you_mean

Words = np.ndarray[Any, np.dtype[np.uint64]]
_NULL = np.uint64(0xA5A5A5A5A5A5A5A5)
_GOLDEN, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def assign(table: pa.Table, key: list[str], spec: SplitSpec, *, column: str | None = None) -> dict[SplitName, pa.Array]:
    """Row masks by split, in the order train, valid, test; each row is in exactly one.

    Args:
        table: canonical columns (see `dtypes.ARROW`).
        key: the columns that decide; all columns when empty, so equal rows share a split.
        column: what strategies stratified, explicit and time read (`DatasetSpec.split_column`).

    Raises:
        DataInvalid: strategy explicit, and a row names no split.
    """
    if spec.strategy == "explicit":
        return _named(table[column])
    if spec.strategy == "time":
        return _dated(table[column], spec)
    deciding = spec.groups if spec.strategy == "group" else key
    hashes = row_hashes(table.select(deciding or table.column_names), spec.salt)
    names = [name for name in SPLITS if name in spec.fractions]
    upper = np.cumsum([spec.fractions[name] for name in names])[:-1]  # the last split takes the rest, rounding included
    if spec.strategy == "stratified":
        at = _dealt(hashes, table[column], upper)
    else:
        at = np.searchsorted(upper, (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53, side="right")
    return {name: pa.array(at == i) for i, name in enumerate(names)}


def _dealt(hashes: Words, strata: pa.ChunkedArray, upper: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The split's number per row: each stratum's rows in hash order, cut at its rounded shares; equal hashes stay together."""
    codes = pc.dictionary_encode(strata).combine_chunks().indices.to_numpy()
    at = np.zeros(len(hashes), dtype=np.int64)
    order = np.lexsort((hashes, codes))
    bounds = np.flatnonzero(np.diff(codes[order], prepend=-1, append=-1))
    for start, stop in pairwise(bounds):
        rows = order[start:stop]
        _, first, which = np.unique(hashes[rows], return_index=True, return_inverse=True)
        at[rows] = np.searchsorted(np.floor(upper * len(rows) + 0.5), first[which], side="right")
    return at


def _named(values: pa.ChunkedArray) -> dict[SplitName, pa.Array]:
    strange = values.filter(pc.invert(pc.is_in(values, pa.array(SPLITS)))).unique().to_pylist()
    if strange:
        shown = ", ".join(f"{value!r}.{did_you_mean(str(value), list(SPLITS))}".removesuffix(".") for value in strange[:5])
        raise DataInvalid(
            f"The column that names splits holds {len(strange):,} other values: {shown}",
            fix=f"write one of {', '.join(SPLITS)} into every row",
        )
    masks = {name: pc.equal(values, name).combine_chunks() for name in SPLITS}
    return {name: mask for name, mask in masks.items() if name == "train" or mask.true_count}


def _dated(values: pa.ChunkedArray, spec: SplitSpec) -> dict[SplitName, pa.Array]:
    names: list[SplitName] = ["train", *(name for name in SPLITS if name in spec.cuts)]
    begins = [pa.scalar(moment(spec.cuts[name]), pa.timestamp("us", tz="UTC")) for name in names[1:]]
    moments = values.cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")) if values.type == pa.date32() else values
    at = np.zeros(len(values), dtype=np.int64)
    for begin in begins:  # they ascend
        at += pc.greater_equal(moments, begin).to_numpy()
    return {name: pa.array(at == i) for i, name in enumerate(names)}


def row_hashes(table: pa.Table, salt: str = "") -> Words:
    """One 64-bit hash per row, over the row's values in column order.

    h = first 8 bytes (big-endian) of sha256(salt); for each 64-bit word w of each column: h = splitmix64(h xor w). A
    number is one word (two's complement, IEEE bits with one NaN and one zero, days, microseconds); a text is its byte
    length, then its UTF-8 bytes in little-endian words, the last one zero-padded; null is the word 0xa5a5a5a5a5a5a5a5.
    """
    hashes = np.full(table.num_rows, int(sha256(salt.encode())[:16], 16), dtype=np.uint64)
    for column in table.columns:
        start = 0
        for chunk in column.chunks:
            part = hashes[start : start + len(chunk)]
            (_fold_text if chunk.type == pa.string() else _fold_numbers)(part, chunk)
            start += len(chunk)
    return hashes


def splitmix64(x: Words) -> Words:
    """Sebastiano Vigna's finaliser (public domain, prng.di.unimi.it/splitmix64.c), element by element."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _fold_numbers(hashes: Words, values: pa.Array) -> None:
    if values.type == pa.float64():
        floats = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False) + 0.0
        floats[np.isnan(floats)] = np.nan
        words = floats.view(np.uint64)
    else:
        if values.type != pa.int64():
            values = values.cast(pa.int32()) if values.type == pa.date32() else values
            values = values.cast(pa.int64())
        words = pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    hashes[:] = splitmix64(hashes ^ _nulled(words, values))


def _fold_text(hashes: Words, values: pa.Array) -> None:
    filled = pc.fill_null(values, "")
    if not len(filled):
        return
    _, offsets_buffer, data = filled.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32, len(filled) + 1, filled.offset * 4).astype(np.int64)
    starts, lengths = offsets[:-1], np.diff(offsets)
    hashes[:] = splitmix64(hashes ^ _nulled(lengths.astype(np.uint64), values))
    text = (data.to_pybytes() if data is not None else b"") + bytes(8)
    words = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))  # the word that starts at any byte
    rows, at = np.flatnonzero(lengths > 0), 0
    while len(rows):
        left = np.minimum(lengths[rows] - at, 8).astype(np.uint64)
        mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> ((np.uint64(8) - left) * np.uint64(8))
        hashes[rows] = splitmix64(hashes[rows] ^ (words[starts[rows] + at] & mask))
        at += 8
        rows = rows[lengths[rows] > at]


def _nulled(words: Words, values: pa.Array) -> Words:
    return words if values.null_count == 0 else np.where(values.is_valid().to_numpy(zero_copy_only=False), words, _NULL)
