"""Tells where the server is and what it serves: one line for people, one note a model for the rest of the house."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from zebra_serving.endpoint import Note

log = logging.getLogger("zebra_serving")


class Herald:
    """Speaks for one server, be it of one process or of several.

    Args:
        models: the default one first.
    """

    def __init__(self, home: Path, models: Sequence[str], alias: str, url: str) -> None:
        self._models, self._url, self._told = models, url, False
        self._notes = {model: Note(home / "serving" / f"{model}-{alias}.json", url) for model in models}

    def settled(self, model: str, version: str | None) -> None:
        """A model serves this version from now on, or none; the first time, people are told that the server is there."""
        try:
            self._notes[model].write(version)
            if not self._told:
                more = f", and {len(self._models) - 1} more when asked for," if len(self._models) > 1 else ""
                what = f"{model} v{version}" if version else f"{model} (nothing to serve yet, see /ready)"
                sys.stdout.write(f"serving {what}{more} on {self._url}\n")
                sys.stdout.flush()
        except OSError as error:  # a full disk, or nobody reads our output any more: no reason to stop serving
            log.warning("could not tell where the server is: %s", error)
        self._told = True

    def gone(self) -> None:
        """Take the notes away."""
        for note in self._notes.values():
            note.remove()
