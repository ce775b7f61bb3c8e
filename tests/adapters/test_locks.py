"""Locks: one holder at a time, across threads and processes, and none after kill -9."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zebra_assets.adapters.locks import FileLocks
from zebra_assets.errors import Conflict, UsageError

HOLDER = """
import sys, time
from pathlib import Path
from zebra_assets.adapters.locks import FileLocks
with FileLocks(Path(sys.argv[1])).hold("train-1"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_held_lock_is_a_conflict_until_it_is_released(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path / "locks")
    with locks.hold("train-1"):
        with pytest.raises(Conflict, match="'train-1' is in use by process"), FileLocks(tmp_path / "locks").hold("train-1"):
            pytest.fail("two holders")
        with locks.hold("train-2"):
            pass
    with locks.hold("train-1"):
        pass


def test_an_error_inside_releases_the_lock(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    with pytest.raises(RuntimeError), locks.hold("x"):
        raise RuntimeError
    with locks.hold("x"):
        pass


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    locks, refused = FileLocks(tmp_path), []

    def other() -> None:
        try:
            with locks.hold("x"):
                pass
        except Conflict as error:
            refused.append(error)

    with locks.hold("x"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Conflict, match=f"process {process.pid}") as caught, FileLocks(tmp_path).hold("train-1"):
        pytest.fail("two holders")
    assert str(process.pid) in str(caught.value.fix)
    process.kill()
    process.wait()
    process.stdout.close()
    with FileLocks(tmp_path).hold("train-1"):
        pass


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/x", "..", "a..b", "x\x00", "x" * 200])
def test_a_name_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError), FileLocks(tmp_path).hold(name):
        pytest.fail("locked")
