"""Is the embedded state database still the file at its path?

A connection to SQLite follows the file, not the name: moved away, it is still read and written; replaced by a restored
copy, the old one goes on being believed. So the loader and the capture ask here first. Other databases answer for themselves.
"""

from pathlib import Path

from sqlalchemy.engine import make_url

from zebra_assets.adapters.state import engine
from zebra_assets.errors import Unavailable


class StateFile:
    """The file behind a state URL, if there is one."""

    def __init__(self, url: str) -> None:
        self._url = url
        parsed = make_url(url)
        self._path = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        self._seen: tuple[int, int] | None = None

    def check(self) -> None:
        """Return if the database can be asked; connections to a file that was replaced are dropped.

        Raises:
            Unavailable: there is no such file. (Opening it would make an empty one in its place.)
        """
        if self._path is None:
            return
        try:
            found = self._path.stat()
        except OSError as error:
            message = f"The state database {self._path} is not there: {error.strerror}."
            raise Unavailable(message, fix="bring the file back, or start anew: mlops train, mlops promote") from error
        identity = (found.st_dev, found.st_ino)
        if self._seen not in (None, identity):
            engine(self._url).dispose()
        self._seen = identity
