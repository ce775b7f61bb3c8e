"""The figures of a server of several processes, as one page: what prometheus_client's multiprocess mode does with its own counters.

Each worker writes what it has counted into files of its own below one folder of the server, twice a second, before it answers
/metrics itself and once more when it ends; whoever answers adds all files up. So a page lacks at most half a second of the other
workers. Counts of a worker that has died stay in; what it showed by gauges goes with it. The folder is its server's as long as that
holds a lock in it, which goes with the process: in another container, a process id would say nothing.
"""

import contextlib
import fcntl
import logging
import math
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from zebra_serving.files import locked

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
_ALIVE = "server.lock"
_Values: Any = MmapedDict  # these two have no annotations
_Merged: Any = MultiProcessCollector
# The other gauges say the same in every worker, or something that its worst case describes.
_ADDED_UP = frozenset({"zebra_model_memory_bytes"})


class Figures:
    """One worker's share.

    Args:
        folder: of the server.
        name: of this worker, like no other one's before or after.
        own: what this worker counts.
    """

    def __init__(self, folder: Path, name: str, own: Collector) -> None:
        self._folder, self._name, self._own = folder, name, own
        self._files: dict[str, tuple[Path, Any]] = {}
        self._lock, self._ended, self._failed = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write a last time."""
        self._ended.set()
        self._thread.join(5.0)
        self._try()
        for _, file in self._files.values():
            file.close()

    def write(self) -> None:
        """Write what is counted by now."""
        gauges: dict[str, list[tuple[str, float]]] = {"livemax": [], "livesum": []}
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
            for family in self._own.collect():
                if family.type == "gauge":
                    gauges["livesum" if family.name in _ADDED_UP else "livemax"] += _values(family)
                else:
                    file = self._file(family.type)
                    for key, value in _values(family):
                        file.write_value(key, value, 0.0)
            for mode, values in gauges.items():
                self._replace(mode, values)

    def page(self) -> tuple[bytes, str]:
        """The exposition text of all workers, and its content type."""
        self.write()
        # A worker's file may go, or come, while the files are read.
        for last in (False, False, True):
            with contextlib.suppress(FileNotFoundError) if not last else contextlib.nullcontext():
                return generate_latest(_Merged(None, str(self._folder))), CONTENT_TYPE_LATEST
        raise AssertionError

    def _file(self, kind: str) -> Any:
        """The counts so far are written again to a file that somebody took away."""
        if kind in self._files and not self._files[kind][0].exists():
            self._files.pop(kind)[1].close()
        if kind not in self._files:
            path = self._folder / f"{kind}_{self._name}.db"
            self._files[kind] = path, _Values(str(path))
        return self._files[kind][1]

    def _replace(self, mode: str, values: list[tuple[str, float]]) -> None:
        """Gauges are written anew: a version that no longer serves must not stay on the page."""
        scratch = self._folder / f".{mode}_{self._name}"
        scratch.unlink(missing_ok=True)
        file = _Values(str(scratch))
        for key, value in values:
            file.write_value(key, value, 0.0)
        file.close()
        scratch.replace(self._folder / f"gauge_{mode}_{self._name}.db")

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._try()

    def _try(self) -> None:
        try:
            self.write()
        except Exception:  # a disk that is full now need not be the next time
            if not self._failed:
                log.exception("this worker's figures are not written")
            self._failed = True
        else:
            self._failed = False


@contextlib.contextmanager
def figures_folder(home: Path) -> Iterator[Path]:
    """A folder for this server's figures, gone afterwards; those that servers left which were killed go now."""
    parent = home / "serving" / "figures"
    with contextlib.ExitStack() as held:
        with locked(home / "serving" / "figures.lock"):  # or one that is being made would look like one that was left
            for left in parent.glob("*"):
                if not _held(left):
                    remove(left)
            folder = parent / secrets.token_hex(6)
            folder.mkdir(parents=True)
            with contextlib.suppress(OSError):  # a file system without locks: there, `_held` takes every folder for another server's
                fcntl.flock(held.enter_context((folder / _ALIVE).open("wb")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.callback(remove, folder)
        yield folder


def _held(folder: Path) -> bool:
    try:
        with (folder / _ALIVE).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # held, or nobody knows
        return True
    return False


def forget(folder: Path, name: str) -> None:
    """A worker has ended: what it showed is over, what it counted stays."""
    for path in folder.glob(f"gauge_*_{name}.db"):
        path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """The server has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def _values(family: Metric) -> Iterator[tuple[str, float]]:
    """Each sample's key in the files, and its value; buckets as they are added up, not cumulated."""
    below: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        if sample.name.endswith("_created") or (family.type == "histogram" and sample.name.endswith("_count")):
            continue
        value = float(sample.value)
        if family.type == "histogram" and sample.name.endswith("_bucket"):
            series = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            value, below[series] = value - below.get(series, 0.0), value
        if not math.isnan(value):
            yield mmap_key(family.name, sample.name, list(sample.labels), list(sample.labels.values()), family.documentation), value
