"""Locks that a killed holder releases: `flock` on files, so the kernel lets go when the process is gone.

One machine only, which is where the embedded defaults run. Called by training (one trainer per run), the
initialiser and the leases of Dagster runs.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zebra_assets.contracts.names import FILENAME, safe_join
from zebra_assets.errors import Conflict, UsageError


class FileLocks:
    """One file per lock name; files stay, because removing one would let two holders in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self, name: str) -> bool:
        """Whether anybody has ever held this lock."""
        return self._path(name).exists()

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """See `Locks.hold`. Threads of one process exclude each other too.

        Raises:
            Conflict: somebody else holds it; the message names the process.
            UsageError: not a plain file name.
        """
        path = self._path(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                raise Conflict(f"'{name}' is in use by process {holder}.", fix=f"wait for it, or look at it: ps -p {holder}") from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
            file.truncate(0)

    def _path(self, name: str) -> Path:
        if not FILENAME.fullmatch(name) or ".." in name:
            raise UsageError(f"Lock name {name!r} is not a plain name.", fix="use letters, digits, '-', '_' and '.'")
        return safe_join(self.folder, f"{name}.lock")
