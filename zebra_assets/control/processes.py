"""Long-running child processes: started in a group of their own, watched until ready, ended with their children."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from zebra_assets.errors import Unavailable

GRACE_S = 5.0


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Service:
    """A child process with its output in a file; leaving the `with` block ends it and everything it started."""

    def __init__(self, name: str, argv: list[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> None:
        self.name, self.argv, self.log, self.cwd = name, argv, log, cwd
        self.env = {**os.environ, **env, "PYTHONUNBUFFERED": "1"}

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        end_group(self.process.pid)
        self.process.wait(GRACE_S)

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self.process.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Its exit code, once it ends by itself.

        Raises:
            Unavailable: it did not end in time; it is killed on leaving the block.
        """
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{self.name} did not end within {timeout_s:.0f} s.", fix=f"less {self.log}") from error

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return once ``ready()``; an HTTP error counts as not yet.

        Raises:
            Unavailable: it ended, or was not ready in time.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self.alive:
            try:
                if ready():
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        how = f"was not ready within {timeout_s:.0f} s" if self.alive else f"ended with {self.process.returncode}"
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
        raise Unavailable(f"{self.name} {how}:\n{tail}", fix=f"less {self.log}")


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the starter dies, kill -9 included, so that no server outlives its demo (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # 1: PR_SET_PDEATHSIG


def end_group(pid: int, grace_s: float = GRACE_S) -> None:
    """Ask a process group to end, and kill what is left after the grace; a group that is gone already is fine.

    The leader is asked first and alone: `dagster dev` ends its own children in order, and a group-wide SIGTERM races it.
    """
    for target, sign in ((pid, signal.SIGTERM), (-pid, signal.SIGKILL)):
        try:
            os.kill(target, sign)
        except ProcessLookupError:
            continue
        if sign == signal.SIGTERM:
            _wait_gone(pid, grace_s)


def _wait_gone(pid: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                return
        except ChildProcessError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
        time.sleep(0.05)
