"""Files here and in a bucket: what is not hashed twice, what is refused before it is unpacked, and what is left behind: nothing."""

import fcntl
import gzip
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.adapters.s3_servers import client, credentials, moto
from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.datasets.connectors import _local, _remote, _stamps
from zebra_assets.datasets.connectors.files import Files
from zebra_assets.datasets.ingest import revision_of
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable, ZebraError

__all__ = ["credentials", "moto"]  # fixtures
ONE: dict[str, Dtype] = {"x": "string"}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go meanwhile."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def source(path: str, project: Path, columns: dict[str, Dtype] | None = None, *, endpoint: str = "", **parameters: Any) -> Files:
    spec = SourceSpec(connector="files", path=path, parameters=parameters)
    return Files(spec, project=project, secrets={"ZEBRA_S3_ENDPOINT_URL": endpoint})


def rows(files: Files, columns: dict[str, Dtype] = ONE) -> int:
    return sum(batch.num_rows for batch in files.batches(columns))


# Digests that are remembered.


def aged(file: Path, content: bytes, age_s: float = 60) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    then = time.time() - age_s
    os.utime(file, (then, then))
    return file


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> Iterator[bytes]:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(_local, "_pieces", read)


def test_bytes_that_another_process_hashed_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(tmp_path / "a.csv", b"x\n1\n")
    code = (
        "import sys; from pathlib import Path; from zebra_assets.datasets.connectors.files import Files\n"
        "from zebra_assets.contracts.dataset_spec import SourceSpec\n"
        "print(Files(SourceSpec(connector='files', path='*.csv'), project=Path(sys.argv[1]), secrets={}).revision())"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout.strip()
    unread(monkeypatch)
    assert source("*.csv", tmp_path).revision() == told
    assert rows(files := source("*.csv", tmp_path)) == 1
    assert files.revision() == told


def test_what_is_remembered_of_a_file_is_the_blake3_of_its_bytes_as_anybody_computes_it(tmp_path: Path) -> None:
    file = aged(tmp_path / "a.csv", b"abc")
    source("*.csv", tmp_path).revision()
    kept = json.loads((tmp_path / _stamps.PLACE).read_bytes())["files"][str(file)]
    assert kept[-1] == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"  # the authors' own vector


def test_bytes_hashed_ahead_are_hashed_once_and_the_revision_is_the_same(tmp_path: Path) -> None:
    aged(tmp_path / "a.csv", b"x\n" + b"1\n" * 1_000_000)
    files = source("*.csv", tmp_path)
    with files.ahead():
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("revision")] == ["revision_0"]
        assert rows(files) == 1_000_000
    assert files.revision() == source("*.csv", tmp_path).revision()
    assert not any(thread.name.startswith("revision") for thread in threading.enumerate())


def test_a_file_that_changes_after_it_was_hashed_ahead_fails_the_read(tmp_path: Path) -> None:
    file = aged(tmp_path / "a.csv", b"x\n1\n")
    files = source("*.csv", tmp_path)
    with pytest.raises(DataInvalid, match="changed"), files.ahead():
        file.write_bytes(b"x\n2\n")
        rows(files)


def test_files_that_are_not_there_are_told_by_who_reads_and_not_ahead(tmp_path: Path) -> None:
    files = source("*.csv", tmp_path)
    with files.ahead(), pytest.raises(NotFound, match="No file matches"):
        rows(files)


def test_a_file_younger_than_two_seconds_is_hashed_each_time_so_a_second_writer_in_one_tick_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"x\n1\n")
    first, stamp = source("a.csv", tmp_path).revision(), file.stat()
    file.write_bytes(b"x\n2\n")
    os.utime(file, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert source("a.csv", tmp_path).revision() != first
    assert not (tmp_path / _stamps.PLACE).exists()


def test_a_writer_that_sets_the_time_back_is_seen(tmp_path: Path) -> None:
    first = source("a.csv", tmp_path)
    file = aged(tmp_path / "a.csv", b"x\n1\n")
    told, stamp = first.revision(), file.stat()
    assert (tmp_path / _stamps.PLACE).exists()
    file.write_bytes(b"x\n2\n")
    os.utime(file, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert source("a.csv", tmp_path).revision() != told


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"version": 2, "files": 5}', b'{"version": 2, "files": {"%s": "x"}}'],
)
def test_a_broken_cache_costs_a_hash_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    file = aged(tmp_path / "a.csv", b"x\n1\n")
    told = source("a.csv", tmp_path).revision()
    (tmp_path / _stamps.PLACE).write_bytes(content.replace(b"%s", str(file).encode()))
    assert source("a.csv", tmp_path).revision() == told
    assert str(file) in json.loads((tmp_path / _stamps.PLACE).read_bytes())["files"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    aged(tmp_path / "a.csv", b"x\n1\n")
    (tmp_path / ".zebraops").write_text("a file where the folder should be")
    assert source("a.csv", tmp_path).revision() == source("a.csv", tmp_path).revision() is not None


def test_what_a_killed_writer_left_of_the_cache_is_taken_over_and_a_live_writer_is_left_alone(tmp_path: Path) -> None:
    file = aged(tmp_path / "a.csv", b"x\n1\n")
    cache = tmp_path / _stamps.PLACE
    half = cache.with_name(f"next-{cache.name}")
    half.parent.mkdir(parents=True)
    half.write_text("half a cache " * 1000)
    with half.open() as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        source("a.csv", tmp_path).revision()
        assert half.read_text() == "half a cache " * 1000 and not cache.exists()
    source("a.csv", tmp_path).revision()
    assert list(json.loads(cache.read_bytes())["files"]) == [str(file)] and [p.name for p in cache.parent.iterdir()] == [cache.name]


def test_writers_of_the_cache_side_by_side_leave_one_whole_file(tmp_path: Path) -> None:
    files = [aged(tmp_path / f"{i}.csv", b"x\n1\n") for i in range(8)]
    cache = tmp_path / _stamps.PLACE
    with ThreadPoolExecutor(8) as pool:  # a lock of `flock` belongs to the open file, so threads are as good as processes
        for _ in range(50):
            list(pool.map(lambda file: source(file.name, tmp_path).revision(), files))
            assert {str(f) for f in files} >= set(json.loads(cache.read_bytes())["files"]) != set()
            assert [p.name for p in cache.parent.iterdir()] == [cache.name]
            cache.unlink()


def test_a_file_that_goes_or_comes_or_grows_while_it_is_read_fails_the_read(tmp_path: Path) -> None:
    def once(change: str) -> None:
        for name in "ab":
            aged(tmp_path / f"{name}.csv", b"x\n1\n")
        (tmp_path / "c.csv").unlink(missing_ok=True)
        batches = source("*.csv", tmp_path).batches(ONE)
        next(batches)
        if change == "goes":
            (tmp_path / "a.csv").unlink()
        else:
            with (tmp_path / ("c.csv" if change == "comes" else "a.csv")).open("ab") as file:
                file.write(b"x\n2\n")
        with pytest.raises(ZebraError, match=r"changed while it was read|cannot be read"):
            list(batches)

    for change in ("goes", "comes", "grows"):
        once(change)


@pytest.mark.parametrize("path", ["a**b.csv", "/", "a" * 300, "a/" * 3000, "[", "a\\b", "~nobody/x.csv"])
def test_a_path_that_can_be_no_file_is_told_and_no_crash(tmp_path: Path, path: str) -> None:
    with pytest.raises((SpecInvalid, NotFound)):
        source(path, tmp_path).revision()


def test_a_pattern_that_would_be_walked_for_minutes_is_simplified_or_refused(tmp_path: Path) -> None:
    aged(tmp_path / "a/b/c/d/e/f/g/h/i/j/k/l/rows.csv", b"x\n1\n")
    began = time.monotonic()
    assert rows(source("/".join(["**"] * 12) + "/*.csv", tmp_path)) == 1
    assert time.monotonic() - began < 30
    with pytest.raises(Refused, match="more than 2 times"):
        source("**/a*/**/b*/**/*.csv", tmp_path).revision()


# Buckets.


@pytest.fixture
def prefix(moto: str) -> str:
    return uuid.uuid4().hex


def put(endpoint: str, key: str, body: bytes) -> None:
    client(endpoint).put_object(Bucket="lake", Key=key, Body=body)


def test_a_bucket_is_read_in_name_order_and_leaves_nothing_behind(moto: str, prefix: str, tmp_path: Path, scratch: Path) -> None:
    for name, body in {"b.csv.gz": gzip.compress(b"x\n3\n"), "a.csv": b"x\n1\n2\n", ".part": b"?", "_c.csv": b"x\n4\n"}.items():
        put(moto, f"{prefix}/{name}", body)
    files = source(f"s3://lake/{prefix}/*", tmp_path, endpoint=moto)
    before = files.revision()
    cells = [cell for batch in files.batches(ONE) for cell in batch["x"].to_pylist()]
    assert cells == ["4", "1", "2", "3"]
    assert files.revision() == before is not None
    assert list(scratch.iterdir()) == []
    assert files.location() == f"s3://lake/{prefix}/*"


def test_a_reader_that_stops_early_leaves_nothing_behind(moto: str, prefix: str, tmp_path: Path, scratch: Path) -> None:
    put(moto, f"{prefix}/a.csv.gz", gzip.compress(b"x\n" + b"1\n" * 9))
    batches = source(f"s3://lake/{prefix}/a.csv.gz", tmp_path, endpoint=moto).batches(ONE)
    next(batches)
    assert list(scratch.iterdir()) != []
    batches.close()  # type: ignore[attr-defined]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("key", ["b.csv", "c.csv"])
def test_an_object_that_changes_or_comes_while_the_bucket_is_read_fails_the_read(moto: str, prefix: str, tmp_path: Path, key: str) -> None:
    for name in ("a.csv", "b.csv"):
        put(moto, f"{prefix}/{name}", b"x\n1\n")
    files = source(f"s3://lake/{prefix}/*.csv", tmp_path, endpoint=moto)
    before = files.revision()
    batches = files.batches(ONE)
    next(batches)
    put(moto, f"{prefix}/{key}", b"x\n2\n")
    with pytest.raises(DataInvalid, match="changed while it was read"):
        list(batches)
    assert files.revision() not in (None, before)


def test_a_revision_of_a_bucket_reads_no_object(moto: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(moto, f"{prefix}/a.csv", b"x\n1\n")
    monkeypatch.setattr(_remote.Remote, "_pieces", None)
    first = source(f"s3://lake/{prefix}/*.csv", tmp_path, endpoint=moto).revision()
    assert source(f"s3://lake/{prefix}/*.csv", tmp_path, endpoint=moto).revision() == first
    put(moto, f"{prefix}/a.csv", b"x\n2\n")
    assert source(f"s3://lake/{prefix}/*.csv", tmp_path, endpoint=moto).revision() not in (None, first)


def test_a_bucket_that_is_not_there_is_told_from_a_server_that_is_away(moto: str, bench: Bench) -> None:
    spec = recipe(source={"connector": "files", "path": "s3://lake/nowhere/*.csv"})
    with pytest.raises(NotFound, match="No object matches s3://lake/nowhere"):
        bench.ingest(spec, ZEBRA_S3_ENDPOINT_URL=moto)
    assert revision_of(spec, project=bench.folder, secrets={"ZEBRA_S3_ENDPOINT_URL": moto}) is None
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        bench.ingest(spec, ZEBRA_S3_ENDPOINT_URL="http://127.0.0.1:9")


def test_objects_larger_than_allowed_are_not_fetched(moto: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(moto, f"{prefix}/a.csv", b"x\n" + b"1\n" * 100)
    monkeypatch.setattr(_remote.Remote, "_pieces", None)
    with pytest.raises(DataInvalid, match="more than 100 bytes"):
        rows(source(f"s3://lake/{prefix}/a.csv", tmp_path, endpoint=moto, max_bytes=100))


@pytest.mark.parametrize(
    "path",
    [
        *("http://127.0.0.1/a.csv", "HTTPS://example.org/a.csv", "ftp://example.org/a.csv", "webhdfs://host/a.csv", "github://a:b@c/a.csv"),
        *("hf://datasets/a.csv", "simplecache::s3://lake/a.csv", "zip://a.csv::http://127.0.0.1/a.zip", "reference://x", "memory://a.csv"),
        *("generic://a.csv", "s3://lake/../a.csv", "jupyter://host/a.csv", "dask://a.csv"),
    ],
)
def test_a_url_that_leads_around_the_checks_of_web_addresses_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        source(path, tmp_path)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("path", "says"), [("file:///etc/hosts", "file://"), ("s4://lake/a.csv", "no filesystem"), ("lakefs://r/a.csv", "lakefs")]
)
def test_a_filesystem_nobody_knows_is_told(path: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid, match=says):
        rows(source(path, tmp_path))


# What swells.


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_rows_that_pack_well_are_let_through_once_somebody_said_so(pack: Any, tmp_path: Path, scratch: Path) -> None:
    name = f"a.csv.{'gz' if pack is gzip.compress else 'zst'}"
    (tmp_path / name).write_bytes(pack(b"x\n" + b"aaaaaaaaaaaaaaa\n" * (5 << 19)))
    began = time.monotonic()
    with pytest.raises(DataInvalid, match=r"swells: its [0-9,]+ bytes become") as caught:
        rows(source(name, tmp_path))
    assert time.monotonic() - began < 30
    assert list(scratch.iterdir()) == []
    allowed = int(str(caught.value.fix).rpartition(" ")[2])
    assert rows(source(name, tmp_path, max_ratio=allowed * 10)) == 5 << 19
    with pytest.raises(DataInvalid, match="more than 1,000,000 bytes"):
        rows(source(name, tmp_path, max_bytes=1_000_000))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
def test_a_torn_file_is_found_before_its_first_row_is_used(name: str, tmp_path: Path) -> None:
    text = csv_bytes(people(5000))
    packed = gzip.compress(text) if name.endswith("gz") else zstandard.compress(text)
    (tmp_path / name).write_bytes(packed[:-20])
    with pytest.raises(DataInvalid, match="cannot be read as csv"):
        next(iter(source(name, tmp_path).batches({"id": "string"})))


def test_a_dictionary_of_one_long_text_is_measured_before_it_is_written_out(tmp_path: Path) -> None:
    entries = pa.array(["y" * 1_000_000, "z"])
    many = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 50_000, pa.int32()), entries)
    pq.write_table(pa.table({"x": many}), tmp_path / "a.parquet", compression="zstd", store_schema=False)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("x", many.type)])) as writer:
        writer.write_batch(pa.record_batch({"x": many}))
    for name in ("a.parquet", "a.arrow"):
        with pytest.raises(DataInvalid, match="swells"):
            rows(source(name, tmp_path))
        slices = [batch.num_rows for batch in source(name, tmp_path, max_ratio=1 << 50).batches(ONE)]
        assert sum(slices) == 100_000
        assert max(slices) <= 150, "64 MiB at a time"


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("form", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_body_that_swells_is_refused_by_its_header(
    compression: str, form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = pa.record_batch({"x": ["y" * 50_000_000, "z"]})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, form(sink, wide.schema, options=options) as writer:
        writer.write_batch(wide)
    for opener in ("open_file", "open_stream"):
        monkeypatch.setattr(pa.ipc, opener, None)
    with pytest.raises(DataInvalid, match="swells"):
        rows(source("a.arrow", tmp_path, max_ratio=20))


def test_a_page_that_claims_more_than_its_footer_is_believed_in_neither(tmp_path: Path) -> None:
    """The footer of this file says 60 kB; the header of its one page, rewritten here, says 1 GiB."""
    pq.write_table(
        pa.table({"x": ["y" * 60_000]}), tmp_path / "a.parquet", use_dictionary=False, compression="gzip", write_statistics=False
    )
    data = (tmp_path / "a.parquet").read_bytes()
    said = bytes([0x15, 0x00, 0x15])  # field 1, page type 0; field 2, bytes when unpacked
    at = data.index(said, 4) + len(said)
    assert data[at : at + 3] == varint(2 * 60_010)
    (tmp_path / "a.parquet").write_bytes(data[:at] + varint(2 << 30) + data[at + 3 :])
    with pytest.raises(DataInvalid, match="swells"):
        rows(source("a.parquet", tmp_path))
    (tmp_path / "a.parquet").write_bytes(data)
    assert rows(source("a.parquet", tmp_path)) == 1


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.arrow"])
def test_ten_thousand_columns_are_refused_soon_and_five_thousand_only_if_asked(name: str, tmp_path: Path) -> None:
    table = pa.table({"x": ["1"], **{f"c{i}": ["1"] for i in range(6000)}})
    if name.endswith("parquet"):
        pq.write_table(table, tmp_path / name)
    elif name.endswith("arrow"):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text(json.dumps(table.to_pylist()[0]) + "\n")
    else:
        (tmp_path / name).write_bytes(csv_bytes(table, "\t" if name.endswith("tsv") else ","))
    with pytest.raises(DataInvalid, match=r"5,000 (columns )?are refused|more than 5,000 columns"):
        rows(source(name, tmp_path))
    assert rows(source(name, tmp_path, max_columns=6001)) == 1


# What is honest is read, however it was written.

HONEST = pa.table(
    {
        "x": pa.array([None if i % 7 == 0 else f"text {i * 7919 % 4001}" for i in range(20_000)]),
        "few": pa.array([f"value {i % 5}" for i in range(20_000)]),
        "long": pa.array(["y" * (i % 3 * 1500) for i in range(20_000)]),
        "n": pa.array([None if i % 11 == 0 else i for i in range(20_000)], pa.int64()),
        "f": pa.array([i / 7 for i in range(20_000)]),
        "b": pa.array([i % 3 == 0 for i in range(20_000)]),
        "t": pa.array(range(20_000), pa.timestamp("us", tz="UTC")),
        "nested": pa.array([{"x": [i], "y": "z"} for i in range(20_000)]),
    }
)
ASKED: dict[str, Dtype] = {"x": "string", "few": "string", "long": "string", "n": "int64", "f": "float64", "b": "bool", "t": "timestamp"}


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False, "row_group_size": 777},
        {"data_page_size": 500, "dictionary_pagesize_limit": 2000},
        {"use_dictionary": ["few"], "column_encoding": {"n": "DELTA_BINARY_PACKED", "f": "BYTE_STREAM_SPLIT", "x": "DELTA_BYTE_ARRAY"}},
        {"write_page_index": True, "write_page_checksum": True, "store_schema": False},
    ],
    ids=["plain", "small groups", "small pages", "encodings", "indexes and checksums"],
)
def test_every_honest_parquet_file_is_read_whole(tmp_path: Path, compression: str, version: str, options: dict[str, Any]) -> None:
    pq.write_table(HONEST, tmp_path / "a.parquet", compression=compression, data_page_version=version, **options)
    read = pa.Table.from_batches(plain(b) for b in source("a.parquet", tmp_path).batches(ASKED))
    assert read.equals(HONEST.select(list(ASKED)).cast(read.schema))


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("form", [pa.ipc.new_file, pa.ipc.new_stream])
def test_every_honest_arrow_file_is_read_whole(tmp_path: Path, compression: str | None, form: Any) -> None:
    table = HONEST.set_column(1, "few", HONEST["few"].dictionary_encode())
    options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, form(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=3001)
    read = pa.Table.from_batches(plain(b) for b in source("a.arrow", tmp_path).batches(ASKED))
    assert read.equals(HONEST.select(list(ASKED)).cast(read.schema))


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch(
        {n: c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for n, c in zip(batch.schema.names, batch.columns, strict=True)}
    )


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_no_bent_byte_ends_in_anything_but_a_reason(tmp_path: Path, suffix: str) -> None:
    """Each of 300 files has eight bytes replaced; what is still read has the rows it had."""
    small = HONEST.slice(0, 200).select(["x", "n"])
    file = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(small, file, compression="zstd")
    else:
        with (
            pa.OSFile(str(file), "wb") as sink,
            pa.ipc.new_file(sink, small.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer,
        ):
            writer.write_table(small)
    data, told = file.read_bytes(), 0
    for i in range(300):
        at = i * len(data) // 300
        file.write_bytes(data[:at] + struct.pack("<q", (-1) ** i * i * 2654435761) + data[at + 8 :])
        try:
            assert rows(source(file.name, tmp_path), {"x": "string", "n": "int64"}) == 200
        except DataInvalid:
            told += 1
    assert told > 30
