"""Object stores: a folder, S3 by two servers (moto, and SeaweedFS, which keeps its word about conditions on disk), and fsspec."""

import contextlib
import os
import pickle
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.adapters.s3_servers import client, credentials, free_port, moto, weed
from tests.faults.proxy import FaultProxy
from zebra_assets.adapters import durable
from zebra_assets.adapters.object_store import open_store
from zebra_assets.adapters.object_store_fsspec import FsspecStore
from zebra_assets.contracts.digest import file_digest, sha256
from zebra_assets.contracts.object_store import Blob, ObjectStore, Prepares
from zebra_assets.contracts.object_store import blob_key as key_of
from zebra_assets.errors import Conflict, NotFound, Refused, Unavailable, UsageError

__all__ = ["credentials", "moto", "weed"]  # fixtures


@pytest.fixture(params=["file", "moto", "weed", "fsspec dir", "s3fs weed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store((tmp_path / "objects").as_uri(), cache=tmp_path / "cache")
    if request.param == "fsspec dir":
        return fsspec_dir(tmp_path)
    endpoint = request.getfixturevalue(request.param.split()[-1])
    if request.param == "s3fs weed":
        return s3fs_store(endpoint, tmp_path)
    return open_store(f"s3://lake/{uuid.uuid4().hex}", cache=tmp_path / "cache", endpoint_url=endpoint)


def fsspec_dir(folder: Path) -> ObjectStore:
    """A folder as fsspec sees one."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    (folder / "fs").mkdir()
    make = lambda: (DirFileSystem(path=str(folder / "fs"), fs=LocalFileSystem(auto_mkdir=True)), "")  # noqa: E731
    return FsspecStore("dir://fs", cache=folder / "cache", make=make)


def s3fs_store(endpoint: str, folder: Path) -> ObjectStore:
    """S3 as fsspec sees it: the way Google and Azure are reached."""
    import s3fs

    root = f"lake/{uuid.uuid4().hex}"
    make = lambda: (s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True), root)  # noqa: E731
    return FsspecStore(f"s3://{root}", cache=folder / "cache", make=make)


@pytest.fixture
def s3(moto: str, tmp_path: Path) -> ObjectStore:
    return open_store(f"s3://lake/{uuid.uuid4().hex}/", cache=tmp_path / "cache", endpoint_url=moto)


def test_what_was_put_is_got_fetched_and_listed(store: ObjectStore, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(3_000_000))
    assert store.put("a/b/one.json", b"{}") == store.uri("a/b/one.json")
    store.put("a/b/big.bin", big)
    store.put("a/c.txt", b"")
    assert store.get("a/b/one.json") == b"{}"
    assert store.get("a/c.txt") == b""
    fetched = store.fetch("a/b/big.bin")
    assert (fetched.suffix, file_digest(fetched), fetched.stat().st_mode & 0o777) == (".bin", file_digest(big), 0o444)
    assert list(store.list("a/")) == ["a/b/big.bin", "a/b/one.json", "a/c.txt"]
    assert list(store.list("a/b/o")) == ["a/b/one.json"]
    assert list(store.list("nowhere/")) == []
    assert store.exists("a/c.txt")
    assert not store.exists("a/b")


def test_the_same_bytes_again_are_a_success_and_others_a_conflict(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    store.put("k", b"one")
    store.put("k", path)
    with pytest.raises(Conflict, match="holds other bytes"):
        store.put("k", b"two")
    assert store.get("k") == b"one"
    store.put("k", b"two", overwrite=True)
    assert store.get("k") == b"two"


def test_of_sixteen_writers_exactly_one_wins(store: ObjectStore) -> None:
    if not store.conditional:
        pytest.skip("fsspec's folder looks first and writes then; the doctor says so")
    store.exists("warm-up")

    def write(i: int) -> int | None:
        try:
            store.put("k", f"writer {i}".encode())
        except Conflict:
            return None
        return i

    with ThreadPoolExecutor(16) as pool:
        won = [i for i in pool.map(write, range(16)) if i is not None]
    assert len(won) == 1
    assert store.get("k") == f"writer {won[0]}".encode()


def test_writers_of_the_same_bytes_all_succeed(store: ObjectStore) -> None:
    store.exists("warm-up")
    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(lambda _: store.put("k", b"same"), range(8))}) == 1
    assert list(store.list("")) == ["k"]


BAD_KEYS = ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\\b", "a\x00b", "a/..", "x" * 2000, ".tmp-1"]


def test_keys_that_could_leave_the_store_are_refused(store: ObjectStore) -> None:
    for key in BAD_KEYS:
        for verb in (store.get, store.fetch, store.exists, store.uri, lambda k: store.put(k, b"")):
            with pytest.raises(Refused):
                verb(key)


def test_an_absent_key_is_not_found(store: ObjectStore) -> None:
    for verb in (store.get, store.fetch):
        with pytest.raises(NotFound) as caught:
            verb("no/such.json")
        assert store.uri("no/such.json") in caught.value.message
        assert caught.value.fix


def test_overwritten_keys_are_fetched_anew_and_blobs_once(store: ObjectStore) -> None:
    store.put("report.html", b"one", overwrite=True)
    assert store.fetch("report.html").read_bytes() == b"one"
    store.put("report.html", b"two", overwrite=True)
    assert store.fetch("report.html").read_bytes() == b"two"


def blob_key(data: bytes) -> str:
    return key_of(sha256(data))


def test_a_cached_blob_needs_no_server_and_a_damaged_one_is_refused(s3: ObjectStore, moto: str, tmp_path: Path) -> None:
    key = blob_key(b"rows")
    s3.put(key, b"rows")
    cached = s3.fetch(key)
    gone = open_store(s3.url, cache=tmp_path / "cache", endpoint_url=moto)
    client(moto).delete_object(Bucket="lake", Key=f"{s3.url.split('/', 3)[3]}/{key}")
    assert gone.fetch(key) == cached
    cached.chmod(0o644)
    cached.write_bytes(b"torn")
    with pytest.raises(NotFound):
        gone.fetch(key)
    s3.put(key, b"other rows", overwrite=True)
    with pytest.raises(Refused, match="holds bytes with digest"):
        gone.fetch(key)


def test_two_stores_never_share_a_cached_file(moto: str, tmp_path: Path) -> None:
    stores = [open_store(f"s3://lake/{uuid.uuid4().hex}", cache=tmp_path, endpoint_url=moto) for _ in range(2)]
    for i, one in enumerate(stores):
        one.put("k", str(i).encode())
    assert [one.fetch("k").read_bytes() for one in stores] == [b"0", b"1"]


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    store = open_store("s3://lake/x", cache=tmp_path, endpoint_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=r"s3://lake/x at http://127\.0\.0\.1") as caught:
        store.fetch("k")
    assert "ZEBRA_S3_ENDPOINT_URL" in str(caught.value.fix)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_missing_bucket_names_the_command_that_makes_it(moto: str, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket", cache=tmp_path, endpoint_url=moto)
    with pytest.raises(Unavailable, match="NoSuchBucket") as caught:
        store.put("k", b"")
    assert caught.value.fix == "aws s3 mb s3://no-such-bucket"


def cutting_proxy(target: str, *, times: int) -> tuple[str, list[int]]:
    """A TCP proxy that hangs up after the first 500 kB of a connection's replies, so many times."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = target.removeprefix("http://").split(":")
    cuts: list[int] = []

    def pump(source: socket.socket, sink: socket.socket, replies: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                carried += len(part)
                if replies and carried > 500_000 and len(cuts) < times:
                    cuts.append(carried)
                    break
                sink.sendall(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            inside, _ = listener.accept()
            outside = socket.create_connection((host, int(port)))
            threading.Thread(target=pump, args=(inside, outside, False), daemon=True).start()
            threading.Thread(target=pump, args=(outside, inside, True), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", cuts


def losing_proxy(target: str) -> tuple[str, list[bytes]]:
    """A TCP proxy that carries everything, but hangs up once instead of passing on the reply to a successful PUT."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = target.removeprefix("http://").split(":")
    lost: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket, replies: bool, put: threading.Event) -> None:
        try:
            while part := source.recv(1 << 16):
                if part.startswith(b"PUT "):
                    put.set()
                if replies and put.is_set() and part.startswith(b"HTTP/1.1 200") and not lost:
                    lost.append(part)
                    break
                sink.sendall(part)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            inside, _ = listener.accept()
            outside = socket.create_connection((host, int(port)))
            put = threading.Event()
            threading.Thread(target=pump, args=(inside, outside, False, put), daemon=True).start()
            threading.Thread(target=pump, args=(outside, inside, True, put), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", lost


def test_a_lost_reply_does_not_make_our_own_write_a_conflict(moto: str, tmp_path: Path) -> None:
    endpoint, lost = losing_proxy(moto)
    prefix = uuid.uuid4().hex
    store = open_store(f"s3://lake/{prefix}", cache=tmp_path, endpoint_url=endpoint)
    store.put("k", b"mine")
    assert len(lost) == 1
    assert client(moto).get_object(Bucket="lake", Key=f"{prefix}/k")["Body"].read() == b"mine"


def test_an_unwritable_folder_is_unavailable_and_named(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    store = open_store((tmp_path / "objects").as_uri(), cache=tmp_path)
    with pytest.raises(Unavailable, match=r"Not a directory|File exists") as caught:
        store.put("a/k", b"")
    assert "ZEBRA_OBJECT_STORE_URL" in str(caught.value.fix)


def test_leftovers_of_a_killed_writer_are_invisible_and_swept_after_a_day(tmp_path: Path) -> None:
    url = (tmp_path / "objects").as_uri()
    store = open_store(url, cache=tmp_path)
    store.put("a/k", b"")
    root, day = tmp_path / "objects", (time.time() - 25 * 3600,) * 2
    old, young, folder, writing = (root / f"{durable.PREFIX}{name}" for name in ("old", "young", "folder", "writing"))
    for path in (old, young, folder / "part", writing / "part"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for path in (old, folder / "part", folder, writing):
        os.utime(path, day)
    assert list(open_store(url, cache=tmp_path).list("")) == ["a/k"]
    assert [p.exists() for p in (old, young, folder, writing)] == [False, True, False, True]


@pytest.mark.parametrize("url", ["", "objects", "/objects", "gs://", "s3://", "file://", "http://x", "memory://x", "nosuch://x"])
def test_an_unknown_url_is_a_usage_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        open_store(url, cache=tmp_path)


def test_a_folder_with_a_space_in_its_name_is_a_folder(tmp_path: Path) -> None:
    store = open_store((tmp_path / "my objects").as_uri(), cache=tmp_path)
    store.put("k", b"x")
    assert (tmp_path / "my objects" / "k").read_bytes() == b"x"


def finished(folder: Path, name: str, data: bytes) -> Blob:
    """A file that was hashed while it was written."""
    path = folder / name
    path.write_bytes(data)
    return Blob(blob_key(data), path, sha256(data))


def test_files_made_in_scratch_become_blobs_and_scratch_leaves_nothing(store: ObjectStore) -> None:
    told: list[int] = []
    data = [os.urandom(1000 + i) for i in range(30)]
    with store.scratch() as scratch:
        made = (finished(scratch, str(i), piece) for i, piece in enumerate([*data, data[0]]))
        uris = store.put_many(made, told.append)
        assert list(store.list("blobs/")) == sorted({blob_key(piece) for piece in data})
    assert uris == [store.uri(blob_key(piece)) for piece in [*data, data[0]]]
    assert sorted(told) == sorted([*map(len, data), len(data[0])])
    assert all(store.digest(blob_key(piece)) == sha256(piece) == file_digest(store.fetch(blob_key(piece))) for piece in data)
    assert not scratch.exists()
    assert list(store.leftovers()) == []


def test_a_file_store_links_what_was_written_in_scratch(tmp_path: Path) -> None:
    store = open_store((tmp_path / "objects").as_uri(), cache=tmp_path)
    with store.scratch() as scratch:
        blob = finished(scratch, "part", b"rows")
        inode = blob.path.stat().st_ino
        store.put(blob.key, blob.path, digest=blob.digest, move=True)
        assert not blob.path.exists()
    stat = store.fetch(blob.key).stat()
    assert (stat.st_ino, stat.st_nlink, stat.st_mode & 0o777) == (inode, 1, 0o444)


@pytest.mark.parametrize("prepared", [0, 3, 6])
def test_before_many_blobs_are_told_their_bytes_and_folders_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: int
) -> None:
    store = open_store((tmp_path / "objects").as_uri(), cache=tmp_path)
    assert isinstance(store, Prepares)
    synced: list[tuple[int, int]] = []  # inode, and how many names the store held then
    sync = os.fsync

    def noting(handle: int) -> None:
        sync(handle)
        synced.append((os.fstat(handle).st_ino, len(list(store.list("blobs/")))))

    monkeypatch.setattr(os, "fsync", noting)
    with store.scratch() as scratch:
        blobs = [finished(scratch, str(i), f"part {i}".encode()) for i in range(6)]
        for blob in blobs[:prepared]:
            store.prepare(blob)
        assert list(store.list("blobs/")) == []
        store.put_many(iter(blobs))
    files = {store.fetch(blob.key) for blob in blobs}
    assert {file.stat().st_ino for file in files} <= {inode for inode, _ in synced}
    assert {file.parent.stat().st_ino for file in files} <= {inode for inode, names in synced if names == 6}
    assert {file.parent.parent.stat().st_ino for file in files} <= {inode for inode, _ in synced}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o444}


def test_a_file_that_was_written_again_after_it_was_prepared_is_synced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store((tmp_path / "objects").as_uri(), cache=tmp_path)
    assert isinstance(store, Prepares)
    with store.scratch() as scratch:
        blob = finished(scratch, "part", b"rows")
        store.prepare(blob)
        blob.path.unlink()
        finished(scratch, "part", b"rows")
        settled: list[Path] = []
        settle = durable.settle

        def noting(path: Path, mode: int) -> os.stat_result:
            settled.append(path)
            return settle(path, mode)

        monkeypatch.setattr(durable, "settle", noting)
        store.put_many([blob])
    assert settled == [blob.path]
    assert store.fetch(blob.key).stat().st_mode & 0o777 == 0o444


def test_of_a_file_that_is_gone_nothing_is_prepared(tmp_path: Path) -> None:
    store = open_store((tmp_path / "objects").as_uri(), cache=tmp_path)
    assert isinstance(store, Prepares)
    store.prepare(Blob(blob_key(b"rows"), tmp_path / "gone", sha256(b"rows")))
    assert not (tmp_path / "objects" / "blobs").exists()


def test_a_moved_blob_is_already_in_the_cache_of_a_remote_store(s3: ObjectStore, moto: str) -> None:
    with s3.scratch() as scratch:
        blob = finished(scratch, "part", b"rows")
        s3.put(blob.key, blob.path, digest=blob.digest, move=True)
    client(moto).delete_object(Bucket="lake", Key=f"{s3.url.split('/', 3)[3]}/{blob.key}")
    assert s3.fetch(blob.key).read_bytes() == b"rows"


def test_an_error_among_many_ends_them_and_is_the_callers(store: ObjectStore) -> None:
    store.put(blob_key(b"1"), b"other bytes", overwrite=True)
    with store.scratch() as scratch, pytest.raises(Conflict, match="holds other bytes"):
        store.put_many(finished(scratch, str(i), str(i).encode()) for i in range(40))
    assert store.get(blob_key(b"1")) == b"other bytes"


def test_entries_say_how_big_and_how_old(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    store.put("a/b", b"12345")
    store.put("a/c", b"")
    one, two = store.entries("a/")
    assert (one.key, one.bytes, two.key, two.bytes) == ("a/b", 5, "a/c", 0)
    assert before <= one.modified <= datetime.now(UTC) + timedelta(seconds=2)
    store.delete("a/b")
    store.delete("a/b")
    assert [entry.key for entry in store.entries("")] == ["a/c"]
    assert not store.exists("a/b")


def test_a_store_travels_to_another_process(store: ObjectStore) -> None:
    if isinstance(store, FsspecStore):
        pytest.skip("the tests' own factories do not pickle")
    store.put("k", b"x")
    assert pickle.loads(pickle.dumps(store)).get("k") == b"x"


def test_a_read_that_breaks_off_is_begun_again(weed: str, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    prefix = uuid.uuid4().hex
    open_store(f"s3://lake/{prefix}", cache=tmp_path / "a", endpoint_url=weed).put("k", data)
    endpoint, cuts = cutting_proxy(weed, times=2)
    store = open_store(f"s3://lake/{prefix}", cache=tmp_path / "b", endpoint_url=endpoint)
    assert store.get("k") == data
    assert len(cuts) == 2


def test_an_answer_that_something_is_absent_may_break_off_too(moto: str, tmp_path: Path) -> None:
    """botocore reads the text of a 404 outside its own retries, and lets urllib3's error out."""
    with FaultProxy(moto, share=0.5, seed=3, faults=("cut short",), only="GET ") as proxy:
        store = open_store("s3://lake/none", cache=tmp_path, endpoint_url=proxy.endpoint)
        for _ in range(10):
            with contextlib.suppress(Unavailable):
                assert store.digest("k") is None
        assert proxy.harmed["cut short"] > 3
