"""Processes that are not our children: whether they still live, and how a group of them ends.

Read from /proc where there is one, else from `ps`. A zombie counts as gone: in a container without an init nobody buries it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

GRACE_S = 15.0  # `dagster dev` took 1.5 s to end its children on a quiet machine, 9 s on a busy one
PROC = Path("/proc/self/stat").exists()


def end(leaders: set[int]) -> None:
    """Ask process groups to end, leaders first, and kill what is left after the grace.

    The leader alone is asked first: `dagster dev` ends its own children in order, and a group-wide SIGTERM races it.
    """
    for pid in leaders:
        _signal(pid, signal.SIGTERM)
    _until(lambda: all(birth(pid) is None for pid in leaders), GRACE_S)
    for pid in leaders:
        _signal(-pid, signal.SIGTERM)
    _until(lambda: not _members(leaders), GRACE_S)
    for pid in leaders:
        _signal(-pid, signal.SIGKILL)


def _signal(target: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(target, sign)


def _until(true: Callable[[], bool], seconds: float) -> None:
    stop = time.monotonic() + seconds
    while not true() and time.monotonic() < stop:
        time.sleep(0.05)


def _members(groups: set[int]) -> list[int]:
    """Processes of these groups that are no zombies."""
    if not PROC:
        lines = _ps("-A", "-o", "pid=,pgid=,stat=").splitlines()
        return [int(pid) for pid, group, state in map(str.split, lines) if int(group) in groups and not state.startswith("Z")]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if (fields := _stat(int(folder.name))) is not None and int(fields[2]) in groups:
            found.append(int(folder.name))
    return found


def birth(pid: int) -> str | None:
    """When a process started, in whatever unit the system has; None when it is gone or a zombie nobody has buried."""
    if PROC:
        return None if (fields := _stat(pid)) is None else fields[19]
    shown = _ps("-o", "stat=,lstart=", "-p", str(pid)).strip()
    return None if not shown or shown.startswith("Z") else shown.partition(" ")[2].strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the name: state, parent, group, ...; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields


def _ps(*words: str) -> str:
    return subprocess.run(["ps", *words], capture_output=True, text=True, check=False).stdout
