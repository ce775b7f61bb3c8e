"""Digests of files, remembered between processes by what `stat` says: an unchanged source is not read to know that it is unchanged.

They rest in `<project>/.zebraops/cache/source-digests.json`, a cache: absent, torn or unwritable, it costs a hash and
nothing else. A file younger than two seconds is neither written down nor looked up, because a second writer could
change it within one tick of its clock and leave the same stamp behind (git calls such a file "racily clean").
Looking up the digest of a 1 GB file takes 0.3 ms, hashing it 0.2 s.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

log = logging.getLogger(__name__)
PLACE = Path(".zebraops") / "cache" / "source-digests.json"
YOUNG_NS = 2_000_000_000
MOST = 50_000  # files; about 10 MB of JSON
_VERSION = 2  # 1 kept sha256


@dataclass(frozen=True)
class Stamp:
    """What `stat` says of a file. The change time is there for writers that set the modification time back."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


def stamp_of(file: Path) -> Stamp:
    """The stamp of a file as it stands."""
    stat = file.stat()
    return Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


class Digests:
    """The remembered digests of one project; a context that writes down what it learnt."""

    def __init__(self, project: Path) -> None:
        self.file = project / PLACE
        self._known: dict[str, list[object]] = {}
        self._learnt: dict[str, list[object]] = {}

    def __enter__(self) -> "Digests":
        self._known = self._load()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._learnt:
            self._save()

    def of(self, file: Path, stamp: Stamp, hash_now: Callable[[], str]) -> str:
        """The digest of ``file``, which had ``stamp`` a moment ago: remembered, else computed by ``hash_now``."""
        key, said = str(file), list(astuple(stamp))
        old = time.time_ns() - stamp.modified_ns >= YOUNG_NS
        known = self._known.get(key)
        if old and known is not None and known[:-1] == said and isinstance(known[-1], str):
            return known[-1]
        digest = hash_now()
        if old and stamp_of(file) == stamp:
            self._learnt[key] = [*said, digest]
        return digest

    def _load(self) -> dict[str, list[object]]:
        try:
            data = json.loads(self.file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            log.info("%s is not used: %s", self.file, error)
            return {}
        files = data.get("files") if isinstance(data, dict) and data.get("version") == _VERSION else None
        return {k: v for k, v in files.items() if isinstance(v, list) and len(v) == 5} if isinstance(files, dict) else {}

    def _save(self) -> None:
        """Newest last, oldest out. Of two writers at once one gives up; its files are hashed once more."""
        merged = {k: v for k, v in self._load().items() if k not in self._learnt} | self._learnt
        kept = dict(list(merged.items())[-MOST:])
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with _next_of(self.file) as out:
                if out is not None:
                    out.write(json.dumps({"version": _VERSION, "files": kept}))
        except OSError as error:
            log.info("%s cannot be written, so the source will be hashed again: %s", self.file, error)


@contextmanager
def _next_of(file: Path) -> Iterator[TextIO | None]:
    """What takes the place of ``file`` when the block ends well; None where another process is writing it.

    It always has the same name, and who writes it holds a lock on it: what a killed writer left, the next one takes over.
    """
    place = file.with_name(f"next-{file.name}")
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644), "w", encoding="utf-8") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = place.stat().st_ino == os.fstat(out.fileno()).st_ino  # else the last writer has just renamed it
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            yield None
            return
        out.truncate(0)
        yield out
        out.flush()
        place.replace(file)
