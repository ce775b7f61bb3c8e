"""The access log: one JSON line a request, written by a thread that wakes five times a second. Never a payload, a token, a path
that a client made up, or a query string.

    {"ts", "request_id", "method", "route", "status", "ms", "bytes", "token", "model", "version"}

`token` is its name, `bytes` those of the answer. What the disk cannot take is dropped and counted, never waited for.
"""

import logging
import sys
import threading
import time
from collections import deque
from contextvars import ContextVar
from pathlib import Path
from typing import IO

import msgspec

from zebra_serving.served import Served

log = logging.getLogger(__name__)

WAKE_S = 0.2
MOST_WAITING = 50_000

# Where the data plane notes which version answers, while somebody wants to know.
ANSWERING: ContextVar[list[Served] | None] = ContextVar("answering", default=None)

_Note = tuple[float, str, str, str, int, float, int, str, Served | None]
_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Appends to ``where``, a file's path or ``-`` for stderr. A file that was moved away is begun anew.

    Attributes:
        dropped: requests without a line, because the disk was too slow or full.
    """

    def __init__(self, where: str) -> None:
        self.dropped = 0
        self._where = None if where == "-" else Path(where)
        self._waiting: deque[_Note] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def note(
        self, request_id: str, method: str, route: str, status: int, seconds: float, size: int, token: str, served: Served | None
    ) -> None:
        """Remember one request; called in the event loop."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append((time.time(), request_id, method, route, status, seconds, size, token, served))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting."""
        self._stopping.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        told = 0
        while not self._stopping.wait(WAKE_S):
            self._write()
            if self.dropped != told:
                told = self.dropped
                log.warning("%d requests have no line in the access log", told)
        self._write()

    def _write(self) -> None:
        count = len(self._waiting)
        if not count:
            return
        lines = b"".join(_line(self._waiting.popleft()) for _ in range(count))
        try:
            if self._where is None:
                _put(sys.stderr.buffer, lines)
            else:
                self._where.parent.mkdir(parents=True, exist_ok=True)
                with self._where.open("ab") as file:
                    _put(file, lines)
        except (OSError, ValueError) as error:
            self.dropped += count
            log.warning("the access log is not written: %s", error)


def _put(file: IO[bytes], lines: bytes) -> None:
    file.write(lines)
    file.flush()


def _line(note: _Note) -> bytes:
    ts, request_id, method, route, status, seconds, size, token, served = note
    said = {
        "ts": round(ts, 3), "request_id": request_id, "method": method, "route": route, "status": status, "ms": round(seconds * 1e3, 3),
        "bytes": size, "token": token or None, "model": served.promotion.model if served else None,
        "version": served.promotion.version if served else None,
    }  # fmt: skip
    return _encode(said) + b"\n"
