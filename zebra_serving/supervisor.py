"""Several processes on one port: starts the workers, restarts those that die, and passes on that it is time to stop.

Each worker has a listening socket of its own on the same address (SO_REUSEPORT: the kernel shares connections out by their
source), which this process holds open as well: a connection that comes while a worker is restarted waits for the next one. A
worker that keeps dying is given pauses of up to 30 s, and its socket is closed for as long, so that nobody waits for it.
Workers follow the ledger themselves; this process imports no web server and touches no model. Called by `launch`.
"""

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zebra_serving.endpoint import bind
from zebra_serving.figures import forget
from zebra_serving.herald import Herald

log = logging.getLogger("zebra_serving")

MAX_PAUSE_S = 30.0
# A worker that lived for as long has earned a restart at once.
HEALTHY_S = 10.0
BACKLOG = 1024


@dataclass
class Worker:
    """One place on the port, and the process that fills it."""

    sock: socket.socket | None
    process: "subprocess.Popen[str] | None" = None
    name: str = ""
    settled: bool = False
    began: float = 0.0
    deaths: int = 0
    start_at: float = field(default=0.0)


class Supervisor:
    """Keeps ``count`` workers alive until told to stop.

    Args:
        command: what a worker is started with, beside its own options.
        grace_s: how long a worker may take to stop.
    """

    def __init__(self, command: Sequence[str], address: tuple[str, int], count: int, figures: Path, herald: Herald, grace_s: float) -> None:
        self._command, self._address, self._figures, self._herald, self._grace_s = command, address, figures, herald, grace_s
        self._workers = [Worker(bind(*address, shared=True, backlog=BACKLOG)) for _ in range(count)]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._code = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT; 0 then, or the exit code of a worker that ended before it had ever served."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        try:
            while not self._stopping.wait(0.1):
                for worker in self._workers:
                    self._tend(worker)
        finally:
            self._stop()
            self._herald.gone()
        return self._code

    def _tend(self, worker: Worker) -> None:
        if worker.process is None:
            if time.monotonic() >= worker.start_at and not self._stopping.is_set():
                self._start(worker)
        elif (code := worker.process.poll()) is not None:
            self._bury(worker, code)

    def _start(self, worker: Worker) -> None:
        worker.sock = worker.sock or bind(*self._address, shared=True, backlog=BACKLOG)
        fd, worker.name, worker.began, worker.settled = worker.sock.fileno(), secrets.token_hex(6), time.monotonic(), False
        own = ["--socket", str(fd), "--figures", str(self._figures), "--name", worker.name]
        # Its stdin ends when this process does, however that comes: nobody is left behind.
        worker.process = subprocess.Popen(
            [*self._command, *own], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(fd,), text=True, bufsize=1
        )
        threading.Thread(target=self._listen, args=(worker, worker.process), name="listen", daemon=True).start()

    def _listen(self, worker: Worker, process: "subprocess.Popen[str]") -> None:
        """Pass on what a worker says: ``{"model": …, "version": …}`` after its start and after each change."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    said = json.loads(line)
                except ValueError:  # killed while it spoke
                    continue
                with self._lock:
                    worker.settled = True
                    if all(one.settled or one.deaths for one in self._workers):
                        self._herald.settled(said["model"], said["version"])

    def _bury(self, worker: Worker, code: int) -> None:
        assert worker.process is not None
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        worker.process = None
        forget(self._figures, worker.name)
        if code and not worker.deaths and not worker.settled:
            log.error("a worker ended with %d before it had served", code)
            self._code = code if code > 0 else 1
            self._stopping.set()
            return
        worker.deaths = 1 if time.monotonic() - worker.began > HEALTHY_S else worker.deaths + 1
        pause = 0.0 if worker.deaths == 1 else min(0.5 * 2 ** min(worker.deaths - 1, 10), MAX_PAUSE_S)
        worker.start_at = time.monotonic() + pause
        log.error("a worker ended with %d and is started again%s", code, f" in {pause:g} s" if pause else "")
        if pause and worker.sock is not None:
            worker.sock.close()
            worker.sock = None

    def _stop(self) -> None:
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        until = time.monotonic() + self._grace_s
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker %d did not stop in time", process.pid)
                process.kill()
                process.wait()
        for worker in self._workers:
            if worker.sock is not None:
                worker.sock.close()


def end_with_parent(stop: Callable[[], None]) -> None:
    """In a worker: call ``stop`` when the supervisor is gone."""

    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold at the interpreter's end
            pass
        stop()

    threading.Thread(target=wait, name="parent", daemon=True).start()
