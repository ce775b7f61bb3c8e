"""The seal on compiled forms: whatever was changed, added, taken or put in their place is noticed."""

import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from zebra_serving.compile.seal import SEAL_FILE, Seal, key_at, seal, unsealed

DIGEST = "a" * 64


@pytest.fixture
def key(tmp_path: Path) -> bytes:
    return key_at(tmp_path / "home" / "compiled.key")


@pytest.fixture
def folder(tmp_path: Path, key: bytes) -> Path:
    made = tmp_path / DIGEST
    made.mkdir()
    (made / "form.json").write_bytes(b'{"form": "onnx"}' * 20)
    (made / "model.onnx").write_bytes(random.Random(1).randbytes(5000))
    seal(made, DIGEST, key)
    return made


def test_a_sealed_folder_gives_its_files_back(folder: Path, key: bytes) -> None:
    found = unsealed(folder, DIGEST, key)
    assert found is not None and found.keys() == {"form.json", "model.onnx"}
    assert all(data == (folder / name).read_bytes() for name, data in found.items())


def test_a_thousand_flipped_bits_are_all_noticed(folder: Path, key: bytes) -> None:
    chance = random.Random(2)
    places = [(p, at) for p in folder.iterdir() for at in range(p.stat().st_size)]
    for path, at in chance.sample(places, 1000):
        good = path.read_bytes()
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :])
        assert unsealed(folder, DIGEST, key) is None, (path.name, at)
        path.write_bytes(good)
    assert unsealed(folder, DIGEST, key) is not None


@pytest.mark.parametrize("change", ["more", "less", "renamed", "link", "folder", "pipe", "unsealed", "linked whole"])
def test_other_files_than_were_sealed_are_refused(folder: Path, key: bytes, tmp_path: Path, change: str) -> None:
    graph = folder / "model.onnx"
    if change == "more":
        (folder / "weights.bin").write_bytes(b"")
    elif change == "less":
        graph.unlink()
    elif change == "renamed":
        graph.rename(folder / "model2.onnx")
    elif change == "link":
        graph.rename(tmp_path / "elsewhere.onnx")
        graph.symlink_to(tmp_path / "elsewhere.onnx")
    elif change == "folder":
        (folder / "more").mkdir()
    elif change == "pipe":
        os.mkfifo(folder / "pipe")
    elif change == "unsealed":
        (folder / SEAL_FILE).unlink()
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    assert unsealed(folder, DIGEST, key) is None


def test_a_seal_holds_for_one_model_and_one_key(folder: Path, key: bytes, tmp_path: Path) -> None:
    assert unsealed(folder, "b" * 64, key) is None
    assert unsealed(folder, DIGEST, key_at(tmp_path / "other.key")) is None


def test_servers_that_start_together_keep_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            place = tmp_path / str(number) / "compiled.key"
            found = [key.result(20) for key in [pool.submit(key_at, place) for _ in range(8)]]
            assert set(found) == {place.read_bytes()} and [p.name for p in place.parent.iterdir()] == [place.name]


def test_files_changed_together_with_their_digests_are_refused_without_the_key(folder: Path, key: bytes) -> None:
    good = msgspec.json.decode((folder / SEAL_FILE).read_bytes(), type=Seal)
    (folder / "model.onnx").write_bytes(b"another graph")
    seal(folder, DIGEST, b"guessed")
    assert unsealed(folder, DIGEST, key) is None
    forged = msgspec.json.decode((folder / SEAL_FILE).read_bytes(), type=Seal)
    (folder / SEAL_FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(forged, mac=good.mac)))
    assert unsealed(folder, DIGEST, key) is None


def test_the_key_is_kept_private_and_a_key_that_is_not_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "home" / "compiled.key"
    first = key_at(path)
    assert len(first) == 32 and key_at(path) == first and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    second = key_at(path)
    assert second != first and path.stat().st_mode & 0o777 == 0o600
    shutil.copy(path, tmp_path / "known")
    path.unlink()
    path.symlink_to(tmp_path / "known")
    assert key_at(path) != second and not path.is_symlink()
    assert [p.name for p in path.parent.iterdir()] == ["compiled.key"]
