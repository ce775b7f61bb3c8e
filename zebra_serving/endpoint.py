"""Where the server listens, and the note that tells the rest of the house: `<home>/serving/<model>-<alias>.json`."""

import errno
import json
import os
import socket
from pathlib import Path

from zebra_assets.errors import Unavailable, UsageError
from zebra_serving.files import write_atomically


def bind(host: str, port: int, *, shared: bool = False, backlog: int = 1) -> socket.socket:
    """A listening-to-be socket on exactly this address; port 0 picks a free one.

    Args:
        shared: whether further sockets of this user may be bound there, to which the kernel deals connections.
        backlog: 1 suffices where uvicorn soon listens again with its own.

    Raises:
        Unavailable: the port is taken.
        UsageError: no such address here, or a port that this user may not bind.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"'{host}' is no address of this machine: {error.strerror}.", fix="--host 127.0.0.1") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
        sock.listen(backlog)  # a second server in the same moment is refused here, not later
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"Port {port} on {host} is taken by another process.", fix="--port 0 picks a free one") from error
        raise UsageError(f"Cannot bind {host}:{port}: {error.strerror}.", fix="--host 127.0.0.1 --port 0") from error
    return sock


def url_of(sock: socket.socket) -> str:
    """The socket's address as a URL that works on this machine."""
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


class Note:
    """The endpoint file of one server; the next server of the same alias overwrites it."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url

    def write(self, version: str | None) -> None:
        """Say where the server is and which version it serves."""
        write_atomically(self._path, json.dumps({"pid": os.getpid(), "url": self._url, "version": version}).encode())

    def remove(self) -> None:
        """Take the note away, unless another server's stands there by now."""
        try:
            if json.loads(self._path.read_bytes())["pid"] == os.getpid():
                self._path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
