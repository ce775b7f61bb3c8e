"""Model folders from strangers: none runs code, none is served, each says why; registering refuses them like serving does."""

import io
import pickle
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest

from tests.serving import hostile
from tests.serving.conftest import MODEL, ROW, Bench, Shelf, until
from tests.serving.hostile import CORPUS, SELF_TESTED, SLOW, Make
from tests.serving.own_code import approve
from zebra_assets.adapters.model_files import load_model, model_digest
from zebra_assets.contracts.model_folder import NOT_COUNTED, check_bytes
from zebra_assets.errors import Refused

DIGEST = "0" * 64


def made(folder: Path, shelf: Shelf, name: str, canary: Path) -> Path:
    shutil.copytree(shelf.folders["1"], folder)
    CORPUS[name](folder, canary)
    return folder


def digest_of(folder: Path) -> str:
    """The folder's true digest, as a gate that looked at nothing but bytes would pin it."""
    try:
        return model_digest(folder)
    except OSError:
        return DIGEST


def test_the_corpus_is_large_enough_and_its_canaries_sing(tmp_path: Path) -> None:
    assert len(CORPUS) >= 80 and set(CORPUS) >= SLOW | SELF_TESTED
    canary = tmp_path / "canary"

    def sings(attempt: Callable[[], object]) -> bool:
        canary.unlink(missing_ok=True)
        attempt()
        return canary.exists()

    assert sings(lambda: pickle.loads(hostile.pickled(canary)))
    assert sings(lambda: joblib.load(io.BytesIO(hostile.joblib_bytes(canary))))
    assert sings(lambda: np.load(io.BytesIO(hostile.object_array(canary)), allow_pickle=True))
    assert sings(lambda: exec(hostile.code(canary)))


@pytest.mark.parametrize("name", sorted(set(CORPUS) - SELF_TESTED))
def test_a_hostile_folder_is_refused_where_it_would_be_registered_and_evaluated(shelf: Shelf, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    folder = made(tmp_path / "model", shelf, name, canary)
    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        load_model(folder, digest_of(folder))
    assert refused.value.fix and not canary.exists() and time.monotonic() - began < 30


def test_each_of_a_thousand_flipped_bits_is_noticed(shelf: Shelf, tmp_path: Path) -> None:
    """After the gate has pinned the digest: what the workshop asks of a folder before it opens anything."""
    folder, chance = tmp_path / "model", random.Random(1000)
    shutil.copytree(shelf.folders["1"], folder)
    digest = model_digest(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size and path.name != NOT_COUNTED]
    check_bytes(folder, digest)
    for _ in range(1000):
        path = chance.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(Refused, match="bytes were changed"):
            check_bytes(folder, digest)
        path.write_bytes(good)
    check_bytes(folder, digest)


class Strangers:
    """A registry whose versions from 100 on are the given folders, made anew for each download; the others are the shelf's."""

    def __init__(self, shelf: Shelf, makes: dict[str, Make], canary: Path) -> None:
        self._shelf, self._canary = shelf, canary
        self.versions = {str(100 + n): name for n, name in enumerate(makes)}
        self._makes = makes

    def download(self, model: str, version: str, into: Path) -> Path:
        into.mkdir(parents=True, exist_ok=True)
        folder = shutil.copytree(self._shelf.folders.get(version, self._shelf.folders["1"]), into / "model")
        if version in self.versions:
            self._makes[self.versions[version]](folder, self._canary)
        return folder

    def alias(self, model: str, alias: str) -> str | None:
        return None


def refuse_all(bench: Bench, tmp_path: Path, makes: dict[str, Make], digests: Callable[[str, Path], str]) -> Counter[str]:
    """Promote each folder under a server that is asked all the while; how many were refused for which reason."""
    canary = tmp_path / "canaries" / "canary"
    canary.parent.mkdir()
    registry = Strangers(bench.shelf, makes, canary)
    bench.promote("1")
    reasons: Counter[str] = Counter()
    answers: Counter[Any] = Counter()
    done = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not done.is_set():
                answer = client.post("/predict", json=ROW)
                answers[answer.status_code, answer.json().get("version")] += 1
                time.sleep(0.002)

    with bench.client("1", registry=registry) as client:
        asking = threading.Thread(target=ask, args=(str(client.base_url),))
        asking.start()
        try:
            for version, name in registry.versions.items():
                folder = registry.download(MODEL, version, tmp_path / version)
                bench.promote(version, digest=digests(name, folder))
                said = until(lambda v=version: (f := client.get("/model").json()["last_reload_failure"]) and f["version"] == v and f)
                assert said["message"] and said["reason"] in ("refused", "self_test"), (name, said)
                reasons[said["reason"]] += 1
                assert not list(canary.parent.glob("canary")), name
        finally:
            done.set()
            asking.join()
        assert client.get("/model").json()["version"] == "1" and client.get("/ready").status_code == 200
    assert set(answers) == {(200, "1")} and sum(answers.values()) > len(makes)
    return reasons


def test_hostile_folders_leave_the_old_version_serving(bench: Bench, tmp_path: Path) -> None:
    some = [*sorted(set(CORPUS) - SLOW)[::9], "pickle renamed"]
    reasons = refuse_all(bench, tmp_path, {name: CORPUS[name] for name in some}, lambda name, folder: digest_of(folder))
    assert sum(reasons.values()) == len(some) >= 7


def test_a_word_for_one_digest_lets_no_other_folder_in(bench: Bench, tmp_path: Path) -> None:
    bringing = {name: CORPUS[name] for name in ("a custom pyfunc", "code", "loader_module", "models from code", "pickle", "a python file")}
    never = {name: CORPUS[name] for name in ("code outside", "link to a file", "a pipe", "yaml: python/name")}
    for version in range(100, 100 + len(bringing) + len(never)):
        approve(bench.settings.state, str(version), DIGEST)
    reasons = refuse_all(bench, tmp_path, bringing | never, lambda name, folder: digest_of(folder))
    assert reasons == {"refused": len(bringing | never)}


@pytest.mark.slow
def test_a_hundred_bad_candidates_leave_the_old_version_serving(bench: Bench, tmp_path: Path) -> None:
    def flipped(at: int) -> Make:
        def make(folder: Path, canary: Path) -> None:
            path = folder / "model.skops"
            data = bytearray(path.read_bytes())
            data[at * len(data) // 20] ^= 1 << at % 8
            path.write_bytes(data)

        return make

    def failing(folder: Path, canary: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(bench.shelf.folders["5"], folder)

    late: dict[str, Make] = {f"a flipped byte {n}": flipped(n) for n in range(12)}
    late |= {"a file more": hostile.text("constraints.txt", lambda c: "x"), "a file less": hostile.missing("conda.yaml")}
    makes = CORPUS | late | {"a failing self-test": failing}
    good = bench.shelf.digests["1"]
    reasons = refuse_all(bench, tmp_path, makes, lambda name, folder: good if name in late else digest_of(folder))
    assert sum(reasons.values()) == len(makes) >= 100 and reasons["self_test"] == 2
