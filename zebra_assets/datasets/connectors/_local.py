"""Files on this machine: which ones a path names, and one digest of them all that costs nothing while they stay as they are.

Called by `files`. What a file's bytes mean is not its business; remote objects are next door in `_remote`.
"""

import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from zebra_assets.contracts.digest import digest_of
from zebra_assets.datasets.connectors._place import Entry, Stopped
from zebra_assets.datasets.connectors._stamps import Digests, Stamp, stamp_of
from zebra_assets.datasets.connectors._unpack import Caps
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid

CHUNK = 8 << 20  # at the end of each the interpreter is asked for, and whoever imports meanwhile gives it away every 5 ms only
MOST_DEEP = 2


class Local:
    """The files that a path or glob names; relative paths start at the project root."""

    def __init__(self, path: str, project: Path) -> None:
        self.where, self.project = path, project

    def entries(self) -> list[Entry]:
        """The files that are there now, in name order; hidden ones are passed over.

        Raises:
            NotFound: there is none.
            Refused: a relative path leads out of the project through a symlink.
        """
        try:
            found = [p for p in self._found() if p.is_file() and not p.name.startswith(".")]
            stamps = [(path, stamp_of(path)) for path in found]
        except OSError as error:  # a name that is too long, a folder that may not be read, a file that went this moment
            raise NotFound(f"source.path cannot be looked up: {error}"[:500], fix="correct source.path, or the rights there") from error
        except (ValueError, IndexError, RecursionError) as error:  # pathlib on "a**b", on "/", and on thousands of folders
            raise SpecInvalid(f"source.path {self.where!r} names no files: {error}.", fix="path: data/*.csv") from error
        if not found:
            raise NotFound(f"No file matches {self.where}.", fix=f"put the data at {self.where}, or correct source.path")
        return [Entry(self._name(path), stamp.size, stamp, str(path)) for path, stamp in stamps]

    def fetch(self, entry: Entry, folder: Path, caps: Caps) -> Path:
        """The file itself: nothing is copied."""
        return Path(entry.path)

    def revision(self, entries: list[Entry], stop: threading.Event) -> str | None:
        """Digest of the files' names and bytes; bytes that were hashed before, by any process, are not read again."""
        with Digests(self.project) as known:
            return digest_of([[e.name, _digest(e, known, stop)] for e in entries])

    def _found(self) -> list[Path]:
        # "**/**" means what "**" does, and would be walked once per way to read it: twelve of them take minutes.
        pattern = re.sub(r"(?:\*\*/)+(?=\*\*(?:/|$))", "", self.where)
        if pattern.count("**") > MOST_DEEP:
            raise Refused(f"source.path has more than {MOST_DEEP} times '**'.", fix="path: data/**/*.csv")
        given = Path(pattern)
        if given.is_absolute():
            return sorted(Path(given.anchor).glob(str(given.relative_to(given.anchor))))
        found = sorted(self.project.glob(pattern))
        for path in found:
            if not path.resolve().is_relative_to(self.project):
                raise Refused(f"{self._name(path)} leads out of the project.", fix="write the real, absolute path into source.path")
        return found

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self.project)) if file.is_relative_to(self.project) else str(file)


def _digest(entry: Entry, known: Digests, stop: threading.Event) -> str:
    assert isinstance(entry.version, Stamp)
    file = Path(entry.path)
    try:
        return known.of(file, entry.version, lambda: _hashed(file, stop))
    except OSError as error:
        raise DataInvalid(f"{entry.name} cannot be read: {error}", fix=f"ls -l {shlex.quote(entry.path)}") from error


def _hashed(file: Path, stop: threading.Event) -> str:
    """BLAKE3 of a file's bytes, 64 hex digits: a core hashes 1 GB in 0.2 s, by sha256 in 0.65 s."""
    digest = blake3()
    for piece in _pieces(file, stop):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path, stop: threading.Event) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(CHUNK):
            if stop.is_set():
                raise Stopped
            yield piece
