"""Object stores: a folder, and S3 by two servers (moto, and SeaweedFS, which keeps its word about conditions on disk)."""

import contextlib
import os
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adapters.s3_servers import client, credentials, free_port, moto, weed
from zebra_assets.adapters import durable
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.digest import file_digest, sha256
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.errors import Conflict, NotFound, Refused, Unavailable, UsageError

__all__ = ["credentials", "moto", "weed"]  # fixtures


@pytest.fixture(params=["file", "moto", "weed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store((tmp_path / "objects").as_uri(), cache=tmp_path / "cache")
    endpoint = request.getfixturevalue(request.param)
    return open_store(f"s3://lake/{uuid.uuid4().hex}", cache=tmp_path / "cache", endpoint_url=endpoint)


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
    return f"blobs/sha256/{sha256(data)[:2]}/{sha256(data)}.parquet"


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
    old, young = (tmp_path / "objects" / "a" / f"{durable.PREFIX}{n}" for n in ("old", "young"))
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    assert list(open_store(url, cache=tmp_path).list("")) == ["a/k"]
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("url", ["", "objects", "/objects", "gs://bucket/x", "s3://", "file://", "http://x"])
def test_an_unknown_url_is_a_usage_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        open_store(url, cache=tmp_path)


def test_a_folder_with_a_space_in_its_name_is_a_folder(tmp_path: Path) -> None:
    store = open_store((tmp_path / "my objects").as_uri(), cache=tmp_path)
    store.put("k", b"x")
    assert (tmp_path / "my objects" / "k").read_bytes() == b"x"
