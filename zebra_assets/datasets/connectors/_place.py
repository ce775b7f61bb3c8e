"""What the files connector asks of a place where files lie: this machine (`_local`) or a server (`_remote`)."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zebra_assets.datasets.connectors._unpack import Caps


@dataclass(frozen=True)
class Entry:
    """One file as it stood when it was listed: while two listings are equal, so are the bytes.

    Args:
        name: for messages, and part of the revision.
        size: in bytes.
        version: `stat`'s words, or the server's version; None where it tells none.
        path: where the place finds it.
    """

    name: str
    size: int
    version: object
    path: str


class Stopped(Exception):
    """Nobody waits for the revision any more."""


class Place(Protocol):
    """Files by name."""

    where: str

    def entries(self) -> list[Entry]:
        """The files that are there now, in name order; hidden ones are passed over. Raises `NotFound` where there is none."""
        ...

    def fetch(self, entry: Entry, folder: Path, caps: Caps) -> Path:
        """The file's bytes in a file on this machine; if that has to be made, below ``folder``."""
        ...

    def revision(self, entries: list[Entry], stop: threading.Event) -> str | None:
        """A digest that changes when any of the files does; `Stopped` when ``stop`` is set meanwhile."""
        ...
