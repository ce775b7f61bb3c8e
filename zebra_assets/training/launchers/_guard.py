"""The process between a launcher and the training process: when either end goes, nothing stays behind.

Runs as ``python -I -S _guard.py GRACE COMMAND...`` in a session of its own (about 20 ms). Its standard input is a pipe that
only the launcher's process holds open: end of file means the launcher died, kill -9 included. On Linux it is also the
subreaper, so that a daemonised grandchild comes back to it and is killed too. Standard library only; imports nothing of ours.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"


def prctl(option: int, value: int) -> None:
    """Ask the kernel; does nothing where there is no such call."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def start(command: list[str]) -> int:
    """Fork and execute ``command``; its pid. It dies with this process."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(137)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 (the command is the caller's argv list)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def descendants() -> list[int]:
    """Pids of every living process below this one."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 (pathlib would double the start-up time)
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state != b"Z":
                parents[int(entry)] = int(parent)
    found: list[int] = []
    wave = {os.getpid()}
    while wave := {pid for pid, parent in parents.items() if parent in wave}:
        found += wave
    return found


def signal_all(number: int) -> bool:
    """Send a signal to everything below this process; whether there was anything."""
    if not LINUX:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, number)
        return False
    found = descendants()
    for pid in found:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return bool(found)


def reap(child: int) -> int | None:
    """Collect every ended process; the exit code of ``child`` if it is among them, 128 + n for a signal n."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code


def main(grace: float, command: list[str]) -> int:
    """Run ``command`` to its end, the launcher's end, or a SIGTERM followed by ``grace`` seconds."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    stopping: list[float] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic() + grace))
    child = start(command)
    asked = False
    code: int | None = None
    while code is None:
        wait = max(0.0, stopping[0] - time.monotonic()) if asked else 60.0
        ready, _, _ = select.select([0, awake], [], [], wait)
        if awake in ready:
            os.read(awake, 4096)
        if 0 in ready and not os.read(0, 4096):
            break
        if stopping and not asked:
            asked = True
            signal_all(signal.SIGTERM)
        if asked and time.monotonic() >= stopping[0]:
            break
        code = reap(child)
    for _ in range(100):
        alive = signal_all(signal.SIGKILL)
        ended = reap(child)
        code = ended if code is None else code
        if not alive:
            break
        time.sleep(0.01)
    return 137 if code is None else code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
