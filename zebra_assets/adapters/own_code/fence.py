"""What a process takes away from itself before it runs a stranger's code. Standard library only; irreversible, inherited by children.

Landlock (Linux 5.13; the network since 6.7) where the kernel has it: read what a Python needs and the model's folder, write to one
scratch folder, no TCP, no signals to other processes, none of their memory or environment. Elsewhere what is left is a process
without the server's environment, which `put_up` says. Memory and CPU are the container's business; it is killed first.
"""

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # system calls, of the same number on every architecture
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38
_PATH_BENEATH = 1
# Rights over files, by bit: execute, write, read, list, eleven that make and remove, move between folders (ABI 2), truncate (3), ioctl (5).
_READ = 1 << 0 | 1 << 2 | 1 << 3
_OF_A_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP, _SIGNALS_AND_SOCKETS = 0b11, 0b11
# What libraries look at while they start: the loader's cache, time zones, the number of processors.
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/dev/urandom")


def ends_with(parent: int) -> None:
    """Be killed when the process that started this one ends, however it ends. Exits if it has ended already."""
    _prctl(_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        os._exit(1)


def put_up(readable: Iterable[Path], scratch: Path) -> str:
    """Fence this process in; what holds it, for people.

    Args:
        readable: files and folders it may read and run besides the system's and Python's own.
        scratch: the folder it may write to.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _prctl(_SET_NO_NEW_PRIVS, 1)
    pythons = (Path(p) for p in {sys.prefix, sys.base_prefix, sys.exec_prefix})
    return _landlock([*map(Path, _SYSTEM), *pythons, *readable], scratch)


def _landlock(readable: Iterable[Path], scratch: Path) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_CREATE, None, 0, 1) if sys.platform == "linux" else -1
    if abi < 1:
        return "a process of its own, which reads and writes what this user may: the system has no Landlock"
    rights = _ALL[min(abi, 5)]
    wanted = struct.pack("=QQQ", rights, _TCP, _SIGNALS_AND_SOCKETS)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = libc.syscall(_CREATE, wanted, len(wanted), 0)
    if ruleset < 0:
        return f"a process of its own, which reads and writes what this user may: {os.strerror(ctypes.get_errno())}"
    for path in readable:
        _allow(libc, ruleset, path, _READ & rights)
    _allow(libc, ruleset, Path("/dev/null"), (_READ | 1 << 1) & rights)
    _allow(libc, ruleset, scratch, rights)
    if libc.syscall(_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "the fence around a model's code could not be closed")
    os.close(ruleset)
    network = "without TCP" if abi >= 4 else "with this machine's network"
    return f"a process of its own, fenced by Landlock: reads Python and its own folder, writes nothing that lasts, {network}"


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    with suppress(FileNotFoundError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", rights if path.is_dir() else rights & _OF_A_FILE, place)
            if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0):
                raise OSError(ctypes.get_errno(), f"the fence around a model's code could not let {path} in")
        finally:
            os.close(place)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
