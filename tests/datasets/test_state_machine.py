"""Any sequence of ingests, kills, losses, races and sweeps leaves what a dictionary says must be there, and nothing by halves.

Hypothesis draws the sequences and shrinks one that breaks a claim. A kill is an audit hook that lets no further change of
the disk happen from the n-th on, cleaning up included: what is left is what SIGKILL leaves, at a hundredth of the price; a
smaller machine sends the real signal. The short form runs in the suite; the long one is 500 runs of 50 steps:

    pytest -m slow tests/datasets/test_state_machine.py
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.datasets.killed import FORK, ingest_until
from zebra_assets.adapters import collector, durable
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.adapters.object_store_file import FileStore
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Manifest, Sketches
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.datasets import ingest as ingest_module
from zebra_assets.datasets.ingest import Ingested, ingest
from zebra_assets.datasets.verify import verify
from zebra_assets.errors import DataInvalid, NotFound

# An ingest syncs some ten files; on a memory file system that costs nothing, and power cuts are not the claim here.
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
TOUCHING = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.rmdir", "shutil.rmtree"}
DATASETS = ("left", "right")
PARTS = ("train", "valid", "test")
Row = tuple[str, float | None, str]
Rows = dict[int, Row]
FLOATS = st.one_of(st.none(), st.floats(allow_nan=False, width=32))
WHICH = st.integers(0, 999)
CELLS = st.tuples(st.sampled_from(PARTS), FLOATS, st.text("aé,\n", max_size=4))
ROWS = st.dictionaries(st.integers(-5, 40), CELLS, min_size=1, max_size=12).filter(lambda rows: "train" in {c[0] for c in rows.values()})


def one_of(names: Iterable[str], which: int) -> list[str]:
    """One of what there is, if there is any. Drawn by number: what there is depends on races, which what is drawn must not."""
    known = sorted(names)
    return [known[which % len(known)]] if known else []


class Killed(BaseException):
    """What a process feels that is killed."""


class Executioner:
    """Counts changes of the disk below a folder; from the ``at``-th on, none happens any more."""

    def __init__(self) -> None:
        self.folder, self.left = "", -1

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.left < 0:
            return
        changes = event in TOUCHING or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and str(args[0]).startswith(self.folder):
            self.left = max(self.left - 1, 0)
            if self.left == 0:
                raise Killed

    @contextmanager
    def strikes(self, folder: Path, at: int) -> Iterator[None]:
        self.folder, self.left = str(folder), at
        try:
            yield
        finally:
            self.left = -1


EXECUTIONER = Executioner()
sys.addaudithook(EXECUTIONER.hear)  # a hook cannot be removed; it is deaf outside `strikes`


def recipe(dataset: str) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "name": dataset,
            "source": {"connector": "files", "path": f"data/{dataset}.csv"},
            "columns": {
                "id": {"dtype": "int64"},
                "part": {"dtype": "string"},
                "x": {"dtype": "float64", "nullable": True},
                "y": {"dtype": "string"},
            },
            "key": ["id"],
            "splits": {"strategy": "explicit", "column": "part"},
        }
    )


SPECS = {name: recipe(name) for name in DATASETS}


def csv_of(pairs: list[tuple[int, Row]]) -> str:
    lines = [f'{i},{part},{"" if x is None else repr(x)},"{y}"' for i, (part, x, y) in pairs]
    return "\n".join(["id,part,x,y", *lines]) + "\n"


class World:
    """A project on disk, and what it must hold."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zebra-machine-", dir=FAST))
        (self.folder / "data").mkdir()
        self.sources: dict[str, Rows | None] = dict.fromkeys(DATASETS)  # None: what lies there breaks the recipe
        self.ids: dict[tuple[str, frozenset[tuple[int, Row]]], str] = {}  # every content that was ever named
        self.held: dict[str, Rows] = {}  # the manifests that must be there, with their rows
        self.keys: dict[str, set[str]] = {}  # the blobs of each that hold rows
        self.sketches: dict[str, Sketches] = {}  # and the one that holds its summaries
        self.lost: set[str] = set()  # blobs that somebody deleted
        self.kills = 0
        self.restart()

    def restart(self) -> None:
        self.store = open_store((self.folder / "objects").as_uri(), cache=self.folder / "cache")
        self.manifests = ManifestFolder(self.folder / "manifests", self.store)

    def write(self, dataset: str, pairs: list[tuple[int, Row]]) -> None:
        (self.folder / "data" / f"{dataset}.csv").write_text(csv_of(pairs), encoding="utf-8", newline="")
        rows = dict(pairs)
        self.sources[dataset] = rows if len(rows) == len(pairs) else None

    def ingest(self, dataset: str) -> Ingested:
        return ingest(SPECS[dataset], project=self.folder, store=self.store, manifests=self.manifests)

    def expect(self, dataset: str, manifest: Manifest, rows: Rows) -> None:
        """The id follows from the rows alone, and no other rows ever had it; the rows are those of the source."""
        content = (dataset, frozenset(rows.items()))
        assert self.ids.setdefault(content, manifest.id) == manifest.id, "the same rows have another id than before"
        assert sum(known == manifest.id for known in self.ids.values()) == 1, "two contents have one id"
        self.held[manifest.id] = rows
        self.keys[manifest.id] = {a.key for a in manifest.artifacts}
        if manifest.stats.sketches is not None:
            self.sketches[manifest.id] = manifest.stats.sketches
        self.lost -= self.keys[manifest.id]
        assert self.rows_of(manifest) == rows

    def rows_of(self, manifest: Manifest) -> Rows:
        found: Rows = {}
        for artifact in manifest.artifacts:
            for row in pq.read_table(self.store.fetch(artifact.key)).to_pylist():
                assert row["part"] == artifact.split
                found[row["id"]] = (row["part"], row["x"], row["y"])
        assert len(found) == manifest.stats.rows == sum(a.rows for a in manifest.artifacts)
        return found

    def whole(self, manifest_id: str) -> bool:
        return not self.keys[manifest_id] & self.lost

    def age(self) -> None:
        """A day and an hour pass for everything that rests."""
        then = time.time() - 25 * 3600
        for place in ("objects", "manifests"):
            for path in (self.folder / place).rglob("*"):
                os.utime(path, (then, then), follow_symlinks=False)

    def collect(self) -> collector.Survey:
        return collector.collect(collector.survey(self.store, [self.folder / "manifests"]))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Ingests(RuleBasedStateMachine):
    """The rules by which the world may change, and what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def teardown(self) -> None:
        self.world.close()

    @initialize(left=ROWS, right=ROWS)
    def begin(self, left: Rows, right: Rows) -> None:
        for name, rows in zip(DATASETS, (left, right), strict=True):
            self.world.write(name, list(rows.items()))

    # -- the source changes

    @rule(dataset=st.sampled_from(DATASETS), rows=ROWS, how=st.sampled_from(("replaced", "grown", "shuffled", "corrected", "twice")))
    def the_source_changes(self, dataset: str, rows: Rows, how: str) -> None:
        """It holds other rows, more, the same in another order, one with another cell, or a key that stands twice."""
        old = self.world.sources[dataset] or rows
        pairs = [*(rows if how == "replaced" else {**rows, **old} if how == "grown" else old).items()]
        if how == "shuffled":
            random.Random(len(rows)).shuffle(pairs)
        if how == "corrected":
            pairs[-1] = (pairs[-1][0], (pairs[-1][1][0], *next(iter(rows.values()))[1:]))
        self.world.write(dataset, [*pairs, pairs[0]] if how == "twice" else pairs)

    @rule(which=WHICH)
    def the_source_is_as_it_was(self, which: int) -> None:
        for name in one_of(self.world.held, which):
            self.world.write(name.rpartition("-")[0], [*self.world.held[name].items()])

    # -- it is ingested

    @rule(dataset=st.sampled_from(DATASETS))
    def ingested(self, dataset: str) -> None:
        world, rows = self.world, self.world.sources[dataset]
        if rows is None:
            with pytest.raises(DataInvalid, match="key is unique"):
                world.ingest(dataset)
            return
        known = world.ids.get((dataset, frozenset(rows.items())))
        done = world.ingest(dataset)
        assert done.created == (known not in world.held)
        world.expect(dataset, done.manifest, rows)

    @rule(dataset=st.sampled_from(DATASETS), at=st.integers(1, 30))
    def killed_while_it_is_ingested(self, dataset: str, at: int) -> None:
        self.kill(dataset, at)

    def kill(self, dataset: str, at: int) -> None:
        world, rows = self.world, self.world.sources[dataset]
        try:
            with EXECUTIONER.strikes(world.folder, at):
                world.ingest(dataset)
        except Killed:
            world.kills += 1
        except DataInvalid:
            assert rows is None
        world.restart()
        self.settle(dataset, rows)

    def settle(self, dataset: str, rows: Rows | None) -> None:
        """After a kill a manifest of these rows may stand or not, but only that one, and only whole."""
        found = {m.id for m in self.world.manifests.list(dataset)}
        new = found - self.world.held.keys()
        assert len(new) <= (rows is not None)
        for name in new:
            self.world.expect(dataset, self.world.manifests.get(name), rows or {})
        # A repair may have come as far as the blobs, and rows that stand in both datasets are one blob.
        self.world.lost -= {key for key in self.world.lost if self.world.store.exists(key)}

    @rule(same=st.booleans())
    def ingested_by_two_at_once(self, same: bool) -> None:
        world, names = self.world, ("left", "left") if same else DATASETS
        done: list[tuple[str, Ingested | None]] = []

        def one(name: str) -> None:
            try:
                done.append((name, world.ingest(name)))
            except DataInvalid:
                done.append((name, None))

        together([lambda name=name: one(name) for name in names])
        assert len(done) == 2
        new = {name: world.ids.get((name, frozenset((world.sources[name] or {}).items()))) not in world.held for name in names}
        for name in dict.fromkeys(names):
            made = [one.created for who, one in done if who == name and one is not None]
            assert sum(made) == (new[name] and world.sources[name] is not None), "one of them makes it, and says so"
        for name, one_done in done:
            assert (one_done is None) == (world.sources[name] is None)
            if one_done is not None:
                world.expect(name, one_done.manifest, world.sources[name] or {})

    # -- things go missing

    @rule(which=WHICH)
    def a_blob_is_lost(self, which: int) -> None:
        world = self.world
        for key in one_of(set().union(*world.keys.values()) - world.lost, which):
            world.store.fetch(key).unlink()
            world.lost.add(key)

    @rule()
    def cloned_anew(self) -> None:
        """The project's own files are gone; the store has all that was committed."""
        shutil.rmtree(self.world.folder / "manifests", ignore_errors=True)
        self.world.restart()

    @rule(which=WHICH)
    def verified(self, which: int) -> None:
        world = self.world
        for name in one_of(world.held, which):
            said = verify(world.manifests.get(name), world.store)
            assert said.ok == world.whole(name)
            assert {b.key for b in said.blobs if not b.ok} == world.keys[name] & world.lost

    # -- and what nothing names is collected

    @rule(old=st.booleans())
    def collected(self, old: bool) -> None:
        """What nothing names goes once it is older than a day; not a blob that a manifest names, nor a young one."""
        world = self.world
        if old:
            world.age()
        before = set(world.store.list("blobs/"))
        gone = {entry.key for entry in world.collect().orphans}
        after = set(world.store.list("blobs/"))
        named = set().union(*world.keys.values(), (sketch.key for sketch in world.sketches.values()))
        assert gone == before - after and not gone & named
        if old:
            assert after == named - world.lost, "nothing but what is named is left"
            world.restart()
            world.kills = 0  # and what they left is swept

    @rule(dataset=st.sampled_from(DATASETS), at=st.integers(5, 25), pause_ms=st.integers(0, 15))
    def collected_while_it_is_ingested(self, dataset: str, at: int, pause_ms: int) -> None:
        """The old blobs that nothing names are just those that the ingest is about to name: an earlier one was killed."""
        world, rows = self.world, self.world.sources[dataset]
        self.kill(dataset, at)
        world.age()
        done: list[Ingested] = []

        def one() -> None:
            with suppress(DataInvalid):
                done.append(world.ingest(dataset))

        def other() -> None:
            time.sleep(pause_ms / 1000)
            world.collect()

        together([one, other])
        assert (rows is None) == (not done)
        for ingested in done:
            world.expect(dataset, ingested.manifest, rows or {})

    # -- and always

    @invariant()
    def what_is_listed_is_what_must_be_there(self) -> None:
        world = self.world
        assert {m.id for m in world.manifests.list()} == world.held.keys()

    @invariant()
    def every_blob_of_a_manifest_is_there_and_is_itself(self) -> None:
        world = self.world
        for name in world.held:
            manifest = world.manifests.get(name)
            assert {a.key for a in manifest.artifacts} == world.keys[name]
            for artifact in manifest.artifacts:
                if artifact.key in world.lost:
                    with pytest.raises(NotFound):
                        world.store.fetch(artifact.key)
                else:
                    assert file_digest(world.store.fetch(artifact.key)) == artifact.digest
            if name in world.sketches:
                assert file_digest(world.store.fetch(world.sketches[name].key)) == world.sketches[name].digest

    @invariant()
    def nothing_is_half_visible(self) -> None:
        """Each key holds the bytes it names, and nothing temporary is left but by those that were killed."""
        world = self.world
        for key in world.store.list("blobs/"):
            assert file_digest(world.store.fetch(key)) == Path(key).stem
        if not world.kills and (world.folder / "objects").is_dir():
            assert not list(world.folder.rglob(".tmp-*"))


class KilledForReal(Ingests):
    """The same with SIGKILL, sent before the n-th change of the disk, alone or while another ingest of the same rows runs on."""

    @rule(dataset=st.sampled_from(DATASETS), at=st.integers(1, 30), beside=st.booleans())
    def killed_while_it_is_ingested(self, dataset: str, at: int, beside: bool) -> None:
        world, rows = self.world, self.world.sources[dataset]
        victim = FORK.Process(target=ingest_until, args=(world.folder, SPECS[dataset], at))
        victim.start()
        try:
            if beside and rows is not None:
                world.expect(dataset, world.ingest(dataset).manifest, rows)
        finally:
            victim.join(60)
        assert victim.exitcode in (0, -signal.SIGKILL)
        world.kills += 1
        world.restart()
        self.settle(dataset, rows)


def together(calls: list[Callable[[], None]]) -> None:
    """Run at once, and raise what any of them raised."""
    failed: list[BaseException] = []
    ready = threading.Barrier(len(calls))

    def one(call: Callable[[], None]) -> None:
        ready.wait()
        try:
            call()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failed:
        raise failed[0]


def run(machine: type[RuleBasedStateMachine], runs: int, steps: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    limits = settings(
        max_examples=runs,
        stateful_step_count=steps,
        phases=phases,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(machine, settings=limits)


def test_any_sequence_leaves_what_the_model_says() -> None:
    run(Ingests, runs=20, steps=25)


def test_any_sequence_with_real_kills_leaves_what_the_model_says() -> None:
    run(KilledForReal, runs=4, steps=12)


def write_in_place(temporary: Path, target: Path) -> bool:
    """What a naive writer does: the name first, then the bytes."""
    if target.exists():
        return False
    with target.open("wb") as out:
        out.write(temporary.read_bytes()[:10])
    with target.open("ab") as out:
        out.write(temporary.read_bytes()[10:])
    return True


def believe(manifests: Manifests, store: ObjectStore, name: str) -> Manifest | None:
    """What a naive ingest does: a manifest is there, so its blobs will be."""
    try:
        return manifests.get(name)
    except NotFound:
        return None


def look_away(namers: object, raw: bytes) -> None:
    """What a naive collector does: it reads documents and sees no blob in them."""


def look_only(store: ObjectStore, keys: Iterable[str]) -> list[str]:
    """What a naive writer does with a blob that is there already: it takes it as it is, however old."""
    return [key for key in keys if not store.exists(key)]


LATE = pytest.mark.slow  # a race: it is lost once in some hundred sequences
PLANTED = {
    "half a blob": (durable, "create", write_in_place),
    "lost blobs": (ingest_module, "committed", believe),
    "a blind collector": (collector.Namers, "_note", look_away),
    "an old blob reused": (FileStore, "renew", look_only),
}


@pytest.mark.parametrize("mistake", [pytest.param(name, marks=[LATE] * name.startswith("an old")) for name in PLANTED])
def test_a_planted_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*PLANTED[mistake])
    with pytest.raises(BaseException) as found:
        run(Ingests, runs=1000, steps=25, phases=(Phase.generate,))
    assert not isinstance(found.value, KeyboardInterrupt | pytest.fail.Exception)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_sequences_of_fifty_steps_leave_what_the_model_says() -> None:
    run(Ingests, runs=500, steps=50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_sequences_with_real_kills_leave_what_the_model_says() -> None:
    run(KilledForReal, runs=50, steps=30)
