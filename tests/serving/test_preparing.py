"""Versions are prepared beside the polling: one that hangs holds up no promotion, no rollback and no news of the ledger."""

import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import MODEL, Bench, OneShelf, served, until
from tests.serving.test_routing import candidate, put
from zebra_assets.errors import Unavailable
from zebra_serving.app import App
from zebra_serving.compile.form import FORM_FILE
from zebra_serving.compile.seal import key_at
from zebra_serving.compile.workshop import KEEP, Workshop
from zebra_serving.files import locked
from zebra_serving.preparing import MAX_ABANDONED, Preparing
from zebra_serving.staging import Staging


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


@contextmanager
def following(bench: Bench, source: Held, *versions: str) -> Iterator[App]:
    """A loader that follows the ledger in its thread and has served ``versions``, one after the other."""
    app = bench.app(registry=source)
    for number, version in enumerate(versions):
        bench.promote(version)
        if not number:
            app.loader.start()
        until(lambda version=version: served(app) == version)
    try:
        yield app
    finally:
        app.loader.stop()
        for event in source.go.values():
            event.set()


def hangs(bench: Bench, source: Held, version: str) -> None:
    bench.promote(version)
    assert source.entered[version].wait(20)


def ended(app: App) -> bool:
    """Whether no abandoned preparation is under way any more."""
    return not any(thread.is_alive() for thread in app.loader._preparing._left)


def test_a_rollback_is_taken_while_a_download_hangs(bench: Bench) -> None:
    source = Held(bench, "2")
    with following(bench, source, "1", "3") as app:
        hangs(bench, source, "2")
        seen = app.loader.standing.ledger_seen
        assert seen is not None
        until(lambda: app.loader.standing.ledger_seen > seen)  # type: ignore[operator]
        bench.promote("1")
        until(lambda: served(app) == "1")
        source.go["2"].set()
        until(lambda: ended(app))
        assert served(app) == "1" and app.loader.previous.promotion.version == "3"  # type: ignore[union-attr]
        bench.promote("2")  # what came of the first download is not lost
        until(lambda: served(app) == "2")
    assert source.asked["2"] == 1


def test_a_newer_promotion_is_prepared_beside_a_download_that_hangs(bench: Bench) -> None:
    source = Held(bench, "2")
    with following(bench, source, "1") as app:
        hangs(bench, source, "2")
        bench.promote("3")
        until(lambda: served(app) == "3")
        source.go["2"].set()
        until(lambda: ended(app))
        assert served(app) == "3" and app.loader.previous.promotion.version == "1"  # type: ignore[union-attr]


def test_a_version_that_is_taken_back_and_named_again_goes_on_being_prepared(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source, begun, prepare = Held(bench, "2"), list[str](), Staging.prepare
    monkeypatch.setattr(Staging, "prepare", lambda self, head: begun.append(head.version) or prepare(self, head))
    app = bench.app(registry=source)
    bench.promote("1")
    app.loader.poll()
    bench.promote("2")
    asked = app.loader._asked

    def again(ended: threading.Event) -> Any:
        if source.entered["2"].is_set() and not source.go["2"].is_set():
            bench.promote("1")
            bench.promote("2")
            source.go["2"].set()
        return asked(ended)

    app.loader._asked = again  # type: ignore[method-assign]
    app.loader.poll()
    assert served(app) == "2" and app.loader.current.promotion.seq == 4  # type: ignore[union-attr]
    assert begun == ["1", "2"]


def test_an_abandoned_preparation_that_fails_is_nobodys_failure(bench: Bench) -> None:
    source = Held(bench, "2")
    source.fail = True
    with following(bench, source, "1") as app:
        hangs(bench, source, "2")
        bench.promote("1")
        until(lambda: app.loader.current.promotion.seq == 3)  # type: ignore[union-attr]
        source.go["2"].set()
        until(lambda: ended(app))
        assert app.loader.standing.failure is None and b"zebra_reload_failures_total{" not in app.fleet.default.metrics.page()[0]


def test_a_ledger_that_goes_while_a_version_is_prepared_is_reported_and_the_version_taken(bench: Bench, tmp_path: Path) -> None:
    source = Held(bench, "2")
    with following(bench, source, "1") as app:
        hangs(bench, source, "2")
        bench.move_state(tmp_path / "away")
        until(lambda: app.loader.stale[0])
        source.go["2"].set()
        until(lambda: served(app) == "2")
        assert app.loader.stale[0] is not None
        bench.move_state(tmp_path / "away", back=True)


@pytest.mark.parametrize("end", ["stop", "sleep"])
def test_a_loader_ends_at_once_while_a_download_hangs_and_nothing_lands_later(bench: Bench, end: str) -> None:
    source = Held(bench, "2")
    bench.promote("2")
    app = bench.app(registry=source)
    app.loader._interval_s = 600.0  # nobody waits for the next look at the ledger
    app.loader.start()
    assert source.entered["2"].wait(20)
    thread = app.loader._thread
    assert thread is not None
    if end == "stop":
        app.loader.stop()
    else:
        app.loader.sleep("asleep")
    thread.join(20)
    assert not thread.is_alive()
    source.go["2"].set()
    until(lambda: ended(app))
    assert app.loader.current is None and app.loader.standing.failure is None
    app.loader.start()
    until(lambda: served(app) == "2")
    app.loader.stop()
    until(lambda: ended(app))  # the worker, too


def test_one_thread_prepares_all_versions_and_keeps_none_of_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[int]()
    prepare = Staging.prepare
    monkeypatch.setattr(Staging, "prepare", lambda self, head: threads.append(threading.get_ident()) or prepare(self, head))
    app = bench.app()
    for version in "12312":
        bench.promote(version)
        app.loader.poll()
        assert served(app) == version
    assert len(threads) == 5 and set(threads) - {threading.get_ident()} == set(threads[:1])
    preparation = app.loader._preparing._now
    assert preparation is not None and not hasattr(preparation, "_work")
    app.loader.stop()


def test_no_more_than_four_hang_beside_each_other(bench: Bench) -> None:
    preparing, go, landed = Preparing(), threading.Event(), list[int]()

    def hung(number: int) -> Callable[[], None]:
        assert go.wait(60)
        return lambda: landed.append(number)

    begun = [preparing.begin(lambda number=number: hung(number)) for number in range(MAX_ABANDONED + 2)]
    assert [one is not None for one in begun] == [True] * MAX_ABANDONED + [False] * 2
    assert all(one.over.is_set() for one in begun if one)
    go.set()
    last = until(lambda: preparing.begin(lambda: lambda: landed.append(99)))
    assert last.over.wait(20) and landed == [99] and not preparing.abandon(last)
    preparing.end()


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
    assert [p.name for p in (bench.settings.home / "serving" / "cache" / MODEL).glob("[!.]*")] == [f"2-{bench.shelf.digests['2'][:12]}"]


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
    # Another server of the same folders: own code that must start again, an explanation, and a start without MLflow want them.
    bench.app().loader._staging.prepare(one)
    assert old.is_dir(), "it serves here"
    del rollback
    staging.prepare(one)
    assert not old.exists()
    assert {p.name for p in old.parent.glob(".*.used")} == {f".{staging.folder(one).name}.used"}


def test_a_fault_that_is_not_the_folders_costs_no_download(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MLflow away what rests on disk is all there is: no file handle left, say, is no reason to throw it away."""
    source, opened = Held(bench), Workshop.open
    app = bench.app(registry=source)
    bench.promote("1")
    broken = [OSError(24, "Too many open files")] * 2

    def open_(self: Workshop, folder: Path, digest: str) -> Any:
        if broken:
            raise broken.pop()
        return opened(self, folder, digest)

    monkeypatch.setattr(Workshop, "open", open_)
    for _ in range(3):
        app.loader.standing = replace(app.loader.standing, failure=None)  # it need not wait until it tries again
        app.loader.poll()
    assert served(app) == "1" and source.asked["1"] == 1


def test_a_thousand_failures_are_followed_by_another_try(bench: Bench) -> None:
    app = bench.app(registry=Held(bench))
    bench.promote("9", digest="f" * 64)
    app.loader.poll()
    failure = app.loader.standing.failure
    assert failure is not None
    app.loader.standing = replace(app.loader.standing, failure=replace(failure, attempts=5000, retry_at=0.0))
    app.loader.poll()
    assert app.loader.standing.failure is not None and app.loader.standing.failure.attempts == 5001
    bench.promote("1")
    app.loader.poll()
    assert served(app) == "1"


def test_a_fault_in_a_look_ends_neither_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with following(bench, Held(bench), "1") as app:
        router = app.fleet.default.router
        router.start()
        for one, name in ((app.loader, "_look"), (router, "_poll")):
            looked, look = threading.Semaphore(0), getattr(one, name)

            def fails(*args: Any, looked: threading.Semaphore = looked) -> None:
                looked.release()
                raise OverflowError("math range error")

            with monkeypatch.context() as patch:
                patch.setattr(one, name, fails)
                for _ in range(2):
                    assert looked.acquire(timeout=20)
            assert getattr(one, name) == look
        bench.promote("2")
        until(lambda: served(app) == "2")
        router.stop()


def test_a_last_good_file_that_cannot_be_read_is_no_end(bench: Bench, tmp_path: Path) -> None:
    (bench.settings.home / "serving" / f"{MODEL}-prod.last-good.json").mkdir(parents=True)
    bench.promote("1")
    bench.move_state(tmp_path / "away")
    app = bench.app()
    app.loader.poll()
    assert served(app) is None and app.loader.standing.stale_since
    bench.move_state(tmp_path / "away", back=True)
    app.loader.poll()
    assert served(app) == "1"


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


def test_a_ledger_that_freezes_is_told_by_whoever_is_asked(bench: Bench) -> None:
    class Freezing:
        def __init__(self, inner: Any) -> None:
            self._inner, self.freeze, self.entered, self.go = inner, threading.Event(), threading.Event(), threading.Event()

        def head(self, model: str, alias: str) -> Any:
            if self.freeze.is_set():
                self.entered.set()
                assert self.go.wait(60)
            return self._inner.head(model, alias)

    bench.promote("1")
    app = bench.app()
    ledger = app.loader._ledger = Freezing(app.loader._ledger)  # type: ignore[assignment]
    with bench.running(app) as client:
        until(lambda: served(app) == "1")
        ledger.freeze.set()
        assert ledger.entered.wait(20)
        try:
            for age, silent in ((5.0, False), (70.0, True)):
                app.loader.standing = replace(app.loader.standing, ledger_seen=time.monotonic() - age)
                ready, about = client.get("/ready").json(), client.get("/model").json()
                assert bool(ready["stale_since"]) == bool(about["stale_since"]) == silent
                assert not silent or ready["stale_reason"].startswith("The ledger has not answered for 7")
        finally:
            ledger.freeze.clear()
            ledger.go.set()
        until(lambda: client.get("/ready").json()["stale_since"] is None)


def test_a_candidate_that_hangs_holds_up_neither_the_other_arm_nor_the_next_route(bench: Bench) -> None:
    source = Held(bench, "3")
    with following(bench, source, "1") as app:
        router = app.fleet.default.router
        put(bench, candidate(bench, "2", name="first", weight=0.2), candidate(bench, "3", name="second", weight=0.2))
        router.start()
        try:
            assert source.entered["3"].wait(20)
            plan = until(lambda: router.plan)
            assert [arm.name for arm in plan.arms()] == ["champion", "first"] and not router.refusals
            put(bench, candidate(bench, "2", name="only", weight=0.5))
            until(lambda: router.plan and router.plan.route.seq == 2 and [arm.name for arm in router.plan.arms()] == ["champion", "only"])
            source.go["3"].set()
            until(lambda: not any(thread.is_alive() for thread in router._candidates._preparing._left))
            assert [served.promotion.version for served in router._candidates.loaded.values()] == ["2"]
        finally:
            router.stop()


def test_a_candidate_that_arrives_after_its_router_fell_asleep_is_forgotten(bench: Bench) -> None:
    source = Held(bench, "2")
    with following(bench, source, "1") as app:
        router = app.fleet.default.router
        put(bench, candidate(bench, "2", weight=0.2))
        router.start()
        assert source.entered["2"].wait(20)
        router.sleep()
        source.go["2"].set()
        until(lambda: not any(thread.is_alive() for thread in router._candidates._preparing._left))
        assert router.plan is None and router._candidates.loaded == {} and router.weight == 0
        router.start()
        until(lambda: router.plan)
        router.stop()
    assert source.asked["2"] == 1
