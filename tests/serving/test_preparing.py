"""Versions are prepared beside each other: one that hangs holds up no other."""

import fcntl
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import MODEL, Bench, OneShelf, served
from zebra_assets.errors import Unavailable
from zebra_serving.compile.form import FORM_FILE
from zebra_serving.compile.seal import key_at
from zebra_serving.compile.workshop import KEEP, Workshop
from zebra_serving.files import locked


class Held:
    """The registry, where downloads of some versions wait until they may go on; those of others that `fail` then."""

    def __init__(self, bench: Bench, *versions: str) -> None:
        self._inner = OneShelf(bench.settings.tracking, ui_url=None)
        self.alias = self._inner.alias
        self.entered, self.go = ({version: threading.Event() for version in versions} for _ in range(2))
        self.asked: Counter[str] = Counter()
        self.fail = False

    def download(self, model: str, version: str, into: Path) -> Path:
        self.asked[version] += 1
        if version in self.go:
            self.entered[version].set()
            assert self.go[version].wait(60)
            if self.fail:
                raise Unavailable("the store hung up")
        return self._inner.download(model, version, into)


def test_a_candidate_whose_download_hangs_holds_up_no_other_version(bench: Bench) -> None:
    source = Held(bench, "2")
    staging = bench.app(registry=source).loader._staging
    one, two = bench.promote("1"), bench.promote("2")
    with ThreadPoolExecutor() as pool:
        hung = pool.submit(staging.prepare, two)
        try:
            assert source.entered["2"].wait(20)
            assert pool.submit(staging.prepare, one).result(20).promotion.version == "1"
            assert not hung.done()
        finally:
            source.go["2"].set()
        assert hung.result(20).promotion.version == "2"


def test_two_loaders_that_prepare_the_same_version_download_it_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source, came = Held(bench, "2"), threading.Semaphore(0)
    monkeypatch.setattr("zebra_serving.staging.locked", lambda path, **how: came.release() or locked(path, **how))
    apps = [bench.app(registry=source) for _ in range(2)]
    bench.promote("2")
    with ThreadPoolExecutor() as pool:
        polls = [pool.submit(app.loader.poll) for app in apps]
        for _ in apps:
            assert came.acquire(timeout=20)
        source.go["2"].set()
        for poll in polls:
            poll.result(60)
    assert [served(app) for app in apps] == ["2", "2"] and source.asked["2"] == 1
    assert [p.name for p in (bench.settings.home / "serving" / "cache" / MODEL).iterdir()] == [f"2-{bench.shelf.digests['2'][:12]}"]


def test_a_version_that_is_being_prepared_is_not_pruned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = bench.app().loader._staging
    one, two = bench.promote("1"), bench.promote("2")
    staging.prepare(two)
    old = staging.folder(two)
    os.utime(old, (0, 0))
    for number in range(6):
        (old.parent / f"{90 + number}-old").mkdir()
    entered, go, check = threading.Event(), threading.Event(), Workshop.open

    def slow(self: Workshop, folder: Path, digest: str) -> Any:
        if folder == old:
            entered.set()
            assert go.wait(60)
        return check(self, folder, digest)

    monkeypatch.setattr(Workshop, "open", slow)
    with ThreadPoolExecutor() as pool:
        rollback = pool.submit(staging.prepare, two)
        try:
            assert entered.wait(20)
            staging.prepare(one)
            assert old.is_dir() and len(list(old.parent.glob("*-old"))) == 4
        finally:
            go.set()
        assert rollback.result(20).promotion.version == "2"
    os.utime(old, (0, 0))
    for number in range(4):
        (old.parent / f"{80 + number}-old").mkdir()
    staging.prepare(one)
    assert not old.exists()


def test_a_form_that_is_being_made_is_not_pruned(bench: Bench, tmp_path: Path) -> None:
    store = tmp_path / "forms"
    key_at(tmp_path / "forms.key")
    for number in range(KEEP + 3):
        (store / f"{number:064}").mkdir(parents=True)
        (store / f"{number:064}" / FORM_FILE).touch()
        os.utime(store / f"{number:064}" / FORM_FILE, (number, number))
    workshop = Workshop(store)
    (tmp_path / f"forms.{'f' * 12}.lock").touch()  # a killed server's
    with locked(workshop._lock_of(f"{1:064}"[:12])):
        workshop._prune()
        kept = sorted(int(p.name) for p in store.iterdir())
    # The first twelve digits are the lock's name, and here they are all the same.
    assert kept == list(range(KEEP + 3))
    workshop._prune()
    assert sorted(int(p.name) for p in store.iterdir()) == list(range(3, KEEP + 3))
    assert not list(tmp_path.glob("*.lock"))


def test_a_lock_whose_file_goes_while_somebody_waits_lets_one_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flock = tmp_path / "lock", fcntl.flock
    opened, go, again, inside = (threading.Event() for _ in range(4))

    def seen(file: Any, how: int) -> None:
        if threading.current_thread().name == "late":
            (again if opened.is_set() else opened).set()
            assert go.wait(20)
        flock(file, how)

    def enter() -> None:
        with locked(path):
            inside.set()

    monkeypatch.setattr(fcntl, "flock", seen)
    late = threading.Thread(target=enter, name="late")
    with locked(path):
        late.start()
        assert opened.wait(20)
    with locked(path), locked(path, wait=False) as mine:  # another file at the same place
        go.set()
        assert again.wait(20) and not inside.is_set() and not mine
    assert inside.wait(20)
    late.join(20)
    assert not path.exists()


def test_a_lock_lets_one_in_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    path, within, most = tmp_path / "lock", 0, 0

    def often() -> None:
        nonlocal within, most
        for _ in range(200):
            with locked(path):
                within += 1
                most = max(most, within)
                os.sched_yield()
                within -= 1

    with ThreadPoolExecutor(6) as pool:
        for one in [pool.submit(often) for _ in range(6)]:
            one.result(60)
    assert most == 1 and list(tmp_path.iterdir()) == []
