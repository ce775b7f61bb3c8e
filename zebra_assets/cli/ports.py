"""Who listens on a port of this machine. Read from /proc where there is one; elsewhere only taken or free is known."""

import socket
from pathlib import Path

LAST = 65_535
LISTEN = "0A"  # st column of /proc/net/tcp


def taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether binding would fail now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection in TIME_WAIT does not take a port
        try:
            sock.bind((host, port))
        except OSError:
            return True
        return False


def holder(port: int) -> tuple[int, str] | None:
    """The process that listens on ``port`` and its command line, or None where that cannot be seen."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not wanted:
        return None
    for fd_dir in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(_target(fd) in wanted for fd in fd_dir.iterdir()):
                words = (fd_dir.parent / "cmdline").read_bytes().split(b"\0")
                return int(fd_dir.parent.name), b" ".join(words).decode(errors="replace").strip()[:120]
        except OSError:  # another user's process, or one that just ended
            continue
    return None


def _inodes(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if table.exists():
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def describe(port: int) -> str:
    """``by process 812 (python -m http.server)``, or an empty string."""
    found = holder(port)
    return f" by process {found[0]} ({found[1]})" if found else ""
