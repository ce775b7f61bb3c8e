"""Launch on this machine: a process group of its own, logs line by line, and nothing left behind.

The child sees an allow-list of this process's environment, never all of it: credentials of stores and registries stay here.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from zebra_assets.errors import TrainingFailed

GRACE_S = 5.0
TAIL = 20
_LINE = 64 * 1024  # a longer line is cut into several
_GUARD = Path(__file__).with_name("_guard.py")

_NAMES = {"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE"}
_PREFIXES = ("LC_", "PYTHON", "CUDA_", "NVIDIA_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_")


def inherited() -> dict[str, str]:
    """What a training process may know of this process's environment."""
    env = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    house = Path(__file__).parents[3]
    if house.name != "site-packages":  # run from a checkout that is not installed
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(house), env.get("PYTHONPATH")]))
    return {**env, "PYTHONUNBUFFERED": "1"}


class Local:
    """The port `Launcher` on this machine."""

    def run(
        self, argv: list[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float, log: Callable[[str], Any]
    ) -> tuple[int, list[str]]:
        """Run ``argv`` to its end; its exit code (128 + n for a signal n) and the last 20 non-blank lines of stderr.

        Args:
            env: added to `inherited`.
            timeout_s: seconds until TERM, then 5 s until KILL, each to every process that ``argv`` started.
            log: called in this thread with each line of stdout and stderr.

        Raises:
            TrainingFailed: timed out. Any other exception, such as KeyboardInterrupt, passes after the same clean-up.
        """
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), str(GRACE_S), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**inherited(), **env},
            start_new_session=True,
        )
        tail: deque[str] = deque(maxlen=TAIL)
        deadline = time.monotonic() + timeout_s
        try:
            for stream, line in _lines(guard, deadline):
                log(line)
                if stream is guard.stderr and line.strip():
                    tail.append(line)
            if not _ended(guard):
                raise TrainingFailed(
                    f"The training process timed out after {timeout_s:g} s and was killed.",
                    fix="make it faster, or raise resources.timeout_s in model.yaml",
                )
        finally:
            _stop(guard)
        return guard.wait(), list(tail)


def _lines(guard: "subprocess.Popen[bytes]", deadline: float) -> Iterator[tuple[IO[bytes], str]]:
    """Lines of both streams as they come, until the process has ended and its pipes are dry, or the deadline."""
    with selectors.DefaultSelector() as selector:
        streams = {stream.fileno(): stream for stream in (guard.stdout, guard.stderr) if stream is not None}
        rest = dict.fromkeys(streams, b"")
        for fd in streams:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            # Half a second: the longest that a script which closed its streams is waited for in vain.
            for key, _ in selector.select(min(0.5, max(0.0, deadline - time.monotonic()))):
                data = os.read(key.fd, _LINE)
                *lines, rest[key.fd] = (rest[key.fd] + data).split(b"\n")
                if rest[key.fd] and (not data or len(rest[key.fd]) >= _LINE):
                    lines.append(rest[key.fd])
                    rest[key.fd] = b""
                if not data:
                    selector.unregister(key.fd)
                for line in lines:
                    yield streams[key.fd], line.decode("utf-8", "replace").rstrip("\r")
    while not _ended(guard) and time.monotonic() < deadline:
        time.sleep(0.02)


def _ended(guard: "subprocess.Popen[bytes]") -> bool:
    """Whether the guard ended; leaves it unreaped, so that its group's number cannot be given to strangers."""
    return guard.returncode is not None or os.waitid(os.P_PID, guard.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _stop(guard: "subprocess.Popen[bytes]") -> None:
    """Ask the guard to end everything, and make sure of it."""
    if not _ended(guard):
        guard.terminate()
        patience = time.monotonic() + GRACE_S + 2
        while not _ended(guard) and time.monotonic() < patience:
            time.sleep(0.02)
    os.killpg(guard.pid, signal.SIGKILL)
    guard.wait()
    for stream in (guard.stdin, guard.stdout, guard.stderr):
        if stream is not None:
            stream.close()


KIND = Local
