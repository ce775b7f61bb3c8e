"""What a process costs as a whole: wall, CPU, peak memory, bytes written, and how busy the machine was with others meanwhile.

Figures cover the process and every process below it. Knows nothing of what it measures.
"""

import os
import resource
import select
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

POLL_S = 0.1  # one look at the tree takes about 2 ms
PATIENCE_S = 1800
STOPPED = "stopped"


@dataclass(frozen=True)
class Measured:
    """One run of one command.

    Attributes:
        wall: seconds.
        cpu: user and system seconds of the tree.
        rss: peak bytes resident: the tree's sum at its highest poll, or the kernel's own mark of the largest process.
        written: bytes handed to the disk.
        foreign: share of the machine's cores, 0 to 1, that others used meanwhile; the kernel's own write-back is among them.
        said: what it printed on stdout.
        failed: why there is no figure, or None.
        kept: bytes that the result takes where it is kept.
        added: bytes of those that were not there before.
    """

    wall: float
    cpu: float
    rss: int
    written: int
    foreign: float
    said: str = ""
    failed: str | None = None
    kept: int | None = None
    added: int | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON, without what the command printed."""
        return {name: value for name, value in asdict(self).items() if name != "said"}


def measure(argv: list[str], *, cwd: Path, env: dict[str, str] | None = None, most_rss: int | None = None) -> Measured:
    """Run ``argv`` to its end and measure it. The disk cache is written back first, so that nobody pays for another's writes.

    Args:
        most_rss: the tree is stopped when it holds more bytes than this; default 85 % of the machine's memory.
    """
    most = most_rss or int(psutil.virtual_memory().total * 0.85)
    os.sync()
    said, log = cwd / "stdout", cwd / "stderr"
    busy, cpu, written, began = _busy(), _children_cpu(), _written(), time.perf_counter()
    with said.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            argv, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            peak, failed = _watch(process, most)
        finally:
            if process.returncode is None:  # we are told to stop ourselves
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    wall = time.perf_counter() - began
    cpu = _children_cpu() - cpu
    foreign = max(0.0, _busy() - busy - cpu) / (wall * (os.cpu_count() or 1))
    if process.returncode and failed is None:
        killed = f"{STOPPED} by the system, probably for want of memory" if process.returncode == -signal.SIGKILL else ""
        failed = killed or f"exit {process.returncode}: {(log.read_text(errors='replace').strip() or said.read_text().strip())[-600:]}"
    return Measured(wall, cpu, peak, _written() - written, foreign, said.read_text(), failed)


def _watch(process: subprocess.Popen[bytes], most: int) -> tuple[int, str | None]:
    """Wait for ``process``; the peak bytes resident, and why it was stopped, if it was."""
    peak, failed, until = 0, None, time.monotonic() + PATIENCE_S
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], POLL_S)[0]:  # wakes at once when it ends: nothing is rounded up to a poll
            peak = max(peak, _resident(process.pid))
            if failed is None and (peak > most or time.monotonic() > until):
                failed = f"{STOPPED} at {peak / 1e9:.1f} GB resident" if peak > most else f"{STOPPED} after {PATIENCE_S:,} s"
                os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(ended)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return max(peak, usage.ru_maxrss * 1024), failed


def _resident(pid: int) -> int:
    """Bytes resident in ``pid`` and all below it; pages that two of them share count twice."""
    total = 0
    try:
        root = psutil.Process(pid)
        for one in (root, *root.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:  # one of them ended meanwhile
        pass
    return total


def _children_cpu() -> float:
    """CPU seconds of every process this one has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _written() -> int:
    """Bytes sent to the disk by this process and by those it has waited for: the kernel adds a child's when it is reaped."""
    return int(psutil.Process().io_counters().write_bytes)


def _busy() -> float:
    """CPU seconds that the machine has worked since it started, stolen ones included."""
    t = psutil.cpu_times()
    return float(t.user + t.system + t.nice + t.irq + t.softirq + t.steal)


def warm(file: Path) -> None:
    """Read ``file`` once, so that everybody finds it in the disk cache."""
    with file.open("rb", buffering=0) as raw:
        while raw.read(1 << 22):
            pass
