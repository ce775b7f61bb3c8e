"""The collector removes what nothing names, keeps what anything names, and never takes a blob from under an ingest."""

import contextlib
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from tests.adapters.s3_servers import client, credentials, moto, weed
from tests.adapters.test_object_store import fsspec_dir
from zebra_assets.adapters import durable, object_store_file, sweeping
from zebra_assets.adapters import object_store_multipart as multipart
from zebra_assets.adapters.collector import collect, survey
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.digest import sha256
from zebra_assets.contracts.object_store import ObjectStore, blob_key
from zebra_assets.errors import Conflict, Unavailable

__all__ = ["credentials", "moto", "weed"]  # fixtures

HOURS = timedelta(hours=1)
OLD = 48 * 3600


@pytest.fixture(params=["file", "fsspec dir"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store((tmp_path / "fs").as_uri(), cache=tmp_path / "cache")
    return fsspec_dir(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the files of `store` are."""
    return tmp_path / "fs"


def put(store: ObjectStore, root: Path, data: bytes, *, age: float = OLD) -> str:
    key = blob_key(sha256(data))
    store.put(key, data)
    os.utime(root / key, (time.time() - age,) * 2)
    return key


def removed(store: ObjectStore, *folders: Path, grace: timedelta = 24 * HOURS) -> list[str]:
    return [blob.key for blob in collect(survey(store, folders, grace=grace)).orphans]


def test_only_old_blobs_that_nothing_names_are_removed(store: ObjectStore, root: Path, tmp_path: Path) -> None:
    orphan, young = put(store, root, b"orphan"), put(store, root, b"young", age=3600)
    named = [put(store, root, f"named {i}".encode()) for i in range(4)]
    store.put("manifests/shop/shop-1.json", json.dumps({"artifacts": [{"key": named[0]}]}).encode())
    store.put("assets/a/b/all.json", json.dumps({"digest": sha256(b"named 1")}).encode())
    store.put("something/of/a/later/version.json", sha256(b"named 2").encode())
    (tmp_path / "manifests" / "shop").mkdir(parents=True)
    (tmp_path / "manifests" / "shop" / "shop-2.json").write_text(sha256(b"named 3"))
    store.put("reports/churn/1/page.html", b"old pages stay")
    before = set(store.list(""))
    found = survey(store, [tmp_path / "manifests"])
    assert [e.key for e in found.orphans] == [orphan]
    assert [e.key for e in found.young] == [young]
    assert sorted(e.key for e in found.named) == sorted(named)
    assert set(store.list("")) == before, "a survey changes nothing"
    assert removed(store, tmp_path / "manifests") == [orphan]
    assert set(store.list("")) == before - {orphan}
    assert removed(store, tmp_path / "manifests") == []


def test_a_document_that_cannot_be_read_stops_the_collection(moto: str, tmp_path: Path) -> None:
    store = open_store("s3://lake/unreadable", cache=tmp_path, endpoint_url=moto)
    orphan = blob_key(sha256(b"orphan"))
    store.put(orphan, b"orphan")
    store.put("manifests/shop/shop-1.json", b"{}")

    def die(**_: object) -> None:
        raise NoCredentialsError

    store.client.meta.events.register("before-send.s3.GetObject", die)  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        removed(store, grace=timedelta(0))
    assert store.exists(orphan)


def test_leftovers_of_killed_writers_go_after_the_grace_period(store: ObjectStore, root: Path) -> None:
    store.put("a/k", b"")
    old, young = root / f"{durable.PREFIX}old", root / f"{durable.PREFIX}young"
    for path in (old, young):
        path.write_bytes(b"12345")
    os.utime(old, (time.time() - OLD,) * 2)
    found = survey(store)
    assert [(left.what, left.name, left.bytes) for left in found.leftovers] == [("temporary file", old.name, 5)]
    collect(found)
    assert (old.exists(), young.exists(), store.exists("a/k")) == (False, True, True)


def test_unfinished_uploads_are_aborted_after_the_grace_period(weed: str, tmp_path: Path) -> None:
    store, s3 = open_store("s3://lake/uploads", cache=tmp_path, endpoint_url=weed), client(weed)
    upload = s3.create_multipart_upload(Bucket="lake", Key="uploads/blobs/x")["UploadId"]
    s3.upload_part(Bucket="lake", Key="uploads/blobs/x", UploadId=upload, PartNumber=1, Body=b"12345")
    assert survey(store).leftovers == []
    time.sleep(2.1)
    found = survey(store, grace=timedelta(seconds=1))
    assert [(left.what, left.bytes) for left in found.leftovers] == [("unfinished upload", 5)]
    collect(found)
    assert list(store.leftovers()) == [] == list(multipart.unfinished(s3, "lake", ""))


def test_a_reused_blob_is_young_again(store: ObjectStore, root: Path) -> None:
    key = put(store, root, b"again")
    store.put(key, b"again")
    assert removed(store) == []
    claims = list(store.list(sweeping.CLAIMS))
    for claim in claims:
        os.utime(root / claim, (time.time() - OLD,) * 2)
    os.utime(root / key, (time.time() - OLD,) * 2)
    assert removed(store) == [key], "a renewal lasts a grace period"
    assert list(store.list(sweeping.CLAIMS)) == []


def test_many_reused_blobs_share_one_claim(moto: str, tmp_path: Path) -> None:
    store = open_store("s3://lake/claims", cache=tmp_path, endpoint_url=moto)
    from tests.adapters.test_object_store import finished

    for _ in range(2):
        with store.scratch() as scratch:
            store.put_many(finished(scratch, str(i), f"part {i}".encode()) for i in range(20))
    (claim,) = store.list(sweeping.CLAIMS)
    assert json.loads(store.get(claim)) == {"claimed": sorted(store.list("blobs/"))}


def test_one_sweep_at_a_time_and_a_dead_collectors_flag_is_taken_down(store: ObjectStore, root: Path) -> None:
    key = put(store, root, b"orphan")
    store.put(sweeping.FLAG, b"another's")
    with pytest.raises(Conflict, match="Another sweep"):
        removed(store)
    assert store.exists(key)
    os.utime(root / sweeping.FLAG, (time.time() - sweeping.DEAD_S - 1,) * 2)
    assert removed(store) == [key]
    assert not store.exists(sweeping.FLAG)


def test_a_flag_that_stays_up_makes_a_reuse_unavailable_not_unsafe(store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping.wait_for_sweep, "__defaults__", (0.1,))
    key = put(store, root, b"again")
    store.put(sweeping.FLAG, b"stuck")
    with pytest.raises(Unavailable, match="mlops gc"):
        store.put(key, b"again")
    store.put(blob_key(sha256(b"new")), b"new")  # nothing old, nothing to wait for


def test_a_sweep_that_was_stopped_for_too_long_removes_nothing_more(
    store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put(store, root, b"orphan")
    monkeypatch.setattr(sweeping, "HOLD_S", -1)
    assert removed(store) == []
    assert store.exists(key)


class Stage:
    """Two actors whose every step on the store waits for its turn, in an order given beforehand.

    When the order is used up, or names an actor that is done, the other goes on.
    """

    def __init__(self, order: str) -> None:
        self.order, self.turn = iter(order), threading.Condition()
        self.waiting: set[str] = set()
        self.living = {"w", "c"}
        self.next: str | None = None

    def step(self) -> None:
        name = threading.current_thread().name
        if name not in ("w", "c"):
            return
        with self.turn:
            self.waiting.add(name)
            self._choose()
            while self.next != name:
                self.turn.wait(10)
            self.waiting.discard(name)
            self.next = None

    def _choose(self) -> None:
        if self.next is None and self.waiting == self.living and self.living:
            wished = next(self.order, "cw"[random.random() < 0.5])
            self.next = wished if wished in self.living else next(iter(self.living))
            self.turn.notify_all()

    def play(self, name: str, part: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            try:
                self.step()
                part()
            finally:
                with self.turn:
                    self.living.discard(name)
                    self._choose()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


def on_stage(stage: Stage, patch: pytest.MonkeyPatch, store: ObjectStore) -> None:
    """Make each thing that touches the disk a step."""

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            stage.step()
            return function(*args, **named)

        return call

    for name in ("exists", "get", "entries", "delete", "create"):
        patch.setattr(store, name, stepping(getattr(store, name)))
    patch.setattr(object_store_file, "file_digest", stepping(object_store_file.file_digest))
    patch.setattr(durable, "create", stepping(durable.create))
    patch.setattr(object_store_file.os, "utime", stepping(os.utime))
    patch.setattr(sweeping.time, "sleep", lambda _: None)
    if hasattr(store, "_send"):
        patch.setattr(store, "_send", stepping(store._send))


def orders() -> Iterator[str]:
    """Who goes when: each actor interrupted once anywhere for any length, and forty by chance."""
    for first, second in ("wc", "cw"):
        for before, during in itertools.product(range(14), (1, 4, 30)):
            yield first * before + second * during + first * 60
    chance = random.Random(3)
    for _ in range(40):
        yield "".join(chance.choice("wc") for _ in range(60))


def dangling(store: ObjectStore, root: Path, chosen: Iterator[str]) -> Iterator[str]:
    """The orders by which an ingest that reuses an old orphan ends with a manifest that names nothing."""
    for number, order in enumerate(chosen):
        data = f"rows {number}".encode()
        key = put(store, root, data)
        stage = Stage(order)
        with pytest.MonkeyPatch.context() as patch:

            def ingest(key: str = key, data: bytes = data, number: int = number) -> None:
                store.put(key, data)
                store.put(f"manifests/shop/shop-{number}.json", json.dumps({"key": key}).encode())

            on_stage(stage, patch, store)
            patch.setattr(sweeping, "WAIT_S", 10)
            actors = [stage.play("w", ingest), stage.play("c", lambda: removed(store))]
            for actor in actors:
                actor.join(20)
                assert not actor.is_alive(), order
        assert store.exists(f"manifests/shop/shop-{number}.json")
        if not store.exists(key):
            yield order
        store.delete(key)
        store.delete(f"manifests/shop/shop-{number}.json")
        for claim in list(store.list(sweeping.CLAIMS)):
            store.delete(claim)


def test_no_order_of_steps_takes_a_reused_blob_from_under_an_ingest(store: ObjectStore, root: Path) -> None:
    assert list(dangling(store, root, orders())) == []


@pytest.mark.parametrize("forgets", ["to renew", "to wait", "to look again"])
def test_a_writer_that_forgets_a_step_is_caught(root: Path, tmp_path: Path, forgets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same orders on a protocol with one step left out: if they found nothing, they would prove nothing."""
    store = open_store(root.as_uri(), cache=tmp_path)

    def renew(keys: Any) -> list[str]:
        wanted = list(keys)
        for path in (root / key for key in wanted):
            if forgets != "to renew":
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)
        if forgets != "to wait":
            sweeping.wait_for_sweep(store)
        return [key for key in wanted if forgets != "to look again" and not store.exists(key)]

    monkeypatch.setattr(store, "renew", renew)
    assert next(dangling(store, root, orders()), None)


def test_ages_are_told_by_the_stores_clock(store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is two days ahead must not take what was written a minute ago."""
    key = put(store, root, b"young", age=60)
    from zebra_assets.adapters import collector

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz or UTC) + timedelta(days=2)

    monkeypatch.setattr(collector, "datetime", Ahead)
    assert [e.key for e in survey(store).orphans] == [key]
    assert removed(store) == []
    assert store.exists(key)
