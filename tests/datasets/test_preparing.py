"""Pieces are prepared while rows stream by, and what goes wrong with that is told."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.adapters import durable
from zebra_assets.errors import DataInvalid, Unavailable


def test_what_the_disk_says_of_a_piece_while_rows_stream_by_ends_the_ingest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.put("people.csv", csv_bytes(people()))
    settle, said = durable.settle, [5]  # EIO: to fsync the kernel says it once

    def failing(path: Path, mode: int) -> os.stat_result:
        if path.suffix == ".parquet" and said:
            raise OSError(said.pop(), "Input/output error")
        return settle(path, mode)

    monkeypatch.setattr(durable, "settle", failing)
    with pytest.raises(Unavailable, match="Input/output error"):
        bench.ingest()
    assert bench.files() == set()
    assert bench.ingest().created


def test_of_rows_that_are_refused_nothing_but_empty_folders_is_left(bench: Bench) -> None:
    rows = people()
    bench.put("people.csv", csv_bytes(pa.concat_tables([rows, rows.slice(0, 1)]).sort_by("id")))
    with pytest.raises(DataInvalid, match="key is unique"):
        bench.ingest()
    assert bench.files() == set()
    assert bench.store._prepared == {}  # a store lives as long as its process, and would remember them as long


def test_blocks_of_the_same_rows_share_a_piece_that_was_prepared_before(bench: Bench) -> None:
    spec = recipe(key=[], splits={"strategy": "explicit", "column": "split"}, columns={"split": {"dtype": "string"}}, label=None)
    bench.put("people.csv", b"split\n" + b"train\n" * 200_000)
    done = bench.ingest(spec)
    assert done.manifest.stats.rows == 200_000
    assert len({artifact.key for artifact in done.manifest.artifacts}) < len(done.manifest.artifacts)
