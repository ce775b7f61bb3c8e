"""A server as a tree of processes: started on its core, asked until it answers, measured, stopped with all that it started."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.serving.bodies import JSON
from benchmarks.serving.contestants import Server, environment

SERVER_CORE, CLIENT_CORE = "0", "1"
PATIENCE_S = 180


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Running:
    """A server that has answered.

    Attributes:
        start_s: seconds from its start to the first prediction.
    """

    server: Server
    root: psutil.Process
    start_s: float

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def url(self) -> str:
        return self.base + self.server.path

    def tree(self) -> list[psutil.Process]:
        return [self.root, *self.root.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU seconds of the server and what it started."""
        total = 0.0
        for one in self.tree():
            with contextlib.suppress(psutil.Error):
                total += sum(one.cpu_times()[:2])
        return total

    def memory_mb(self) -> tuple[float, float]:
        """(RSS, PSS) of the tree: as `ps` adds it up, and with pages that processes share counted once."""
        rss = pss = 0
        for one in self.tree():
            with contextlib.suppress(psutil.Error):
                found = one.memory_full_info()
                rss, pss = rss + found.rss, pss + found.pss
        return rss / 1e6, pss / 1e6

    def at_rest(self) -> None:
        """Return when the tree has used no CPU for a quarter of a second, after ten at most."""
        before, deadline = self.cpu_s(), time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.25)
            now = self.cpu_s()
            if now - before < 0.015:
                return
            before = now


@contextlib.contextmanager
def running(server: Server, first: bytes, log: Path) -> Iterator[Running]:
    """The server, from its first answer to ``first`` until the block ends.

    Raises:
        SystemExit: it ended, or did not answer within three minutes; with the end of its log.
    """
    began = time.perf_counter()
    with log.open("w") as out:
        # In the log's folder: `python -m` puts the working directory before everything else.
        command = ["taskset", "-c", SERVER_CORE, *server.argv]
        child = subprocess.Popen(command, env=environment(server), stdout=out, stderr=out, cwd=log.parent, start_new_session=True)
    try:
        found = Running(server, psutil.Process(child.pid), 0.0)
        # One client for all tries: making one takes 40 ms of a core that the server may be starting on.
        with httpx.Client(timeout=60, headers={"content-type": JSON, "connection": "close"}) as client:
            while not _answers(client, found.url, first):
                if child.poll() is not None or time.perf_counter() - began > PATIENCE_S:
                    raise SystemExit(f"{server.name} did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.01)
        found.start_s = time.perf_counter() - began
        yield found
    finally:
        _stop(child)


def _answers(client: httpx.Client, url: str, body: bytes) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return client.post(url, content=body).is_success
    return False


def _stop(child: "subprocess.Popen[bytes]") -> None:
    for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            if number == signal.SIGTERM:
                time.sleep(0.1)
