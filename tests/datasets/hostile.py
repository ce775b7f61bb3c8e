"""A warm process that carries out `mlops` commands on hostile projects, each in a fork of its own, and tells what that cost.

Forked, so that a case pays for its own work only: imports are done, and a good ingest has been made. Every fork refuses to
connect anywhere but to loopback and to look up any name, dies after 30 s or at 12 GB of address space, and
reports its exit code, words, seconds, and how far its resident memory rose. Run by `test_hostile` as a module.
"""

import io
import ipaddress
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
LIMIT_S = 30


@dataclass(frozen=True)
class Outcome:
    """What one command came to; ``grew`` is in bytes, ``killed_by`` a signal where the process crashed."""

    code: int
    killed_by: int
    out: str
    err: str
    seconds: float
    grew: int
    reached: list[str]


class Warm:
    """The warm process, as its caller sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, *words: str, **env: str) -> Outcome:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"words": words, "env": env}) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


@contextmanager
def warm(good: Path) -> Iterator[Warm]:
    """A warm process that has ingested ``dataset`` of the project ``good`` once."""
    argv = [sys.executable, "-m", "tests.datasets.hostile", str(good)]
    process = subprocess.Popen(argv, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Warm(process)
    finally:
        assert process.stdin and process.stdout
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def guard(event: str, args: tuple[Any, ...], reached: list[str]) -> None:
    """Hear of sockets and names; refuse what leads away from this machine."""
    if event == "socket.getaddrinfo" and not _literal(str(args[0])):
        reached.append(f"name {args[0]}")
        raise PermissionError(f"a test looked up {args[0]}")
    if event == "socket.connect" and isinstance(args[1], tuple) and not ipaddress.ip_address(args[1][0]).is_loopback:
        reached.append(f"address {args[1][0]}")
        raise PermissionError(f"a test went to {args[1]}")


def _literal(host: str) -> bool:
    """Whether reading a host needs no server: an address however it is spelled, or localhost."""
    return host == "localhost" or ":" in host or all(c in "0123456789abcdefxABCDEFX." for c in host)


def status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith(field))
    return int(line.split()[1]) * 1024


def carry_out(words: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Run one command in this process, which is a fork."""
    from zebra_assets.cli.main import cli

    reached: list[str] = []
    sys.addaudithook(lambda event, args: guard(event, args, reached))
    signal.alarm(LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.update(env)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, began = status("VmRSS"), time.perf_counter()
    out, err = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        cli.main(words)
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # not even the front door caught it
        code = 1
        traceback.print_exc()
    seconds = time.perf_counter() - began
    grew = status("VmHWM") - before
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "seconds": seconds, "grew": grew, "reached": reached}


def forked(words: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Fork, let the fork carry the command out, and wait for it."""
    read, write = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        told = carry_out(words, env)
        with os.fdopen(write, "w") as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, ended, usage = os.wait4(pid, 0)
    crashed = {"code": -1, "out": "", "err": "", "seconds": time.perf_counter() - began, "grew": usage.ru_maxrss * 1024, "reached": []}
    return {**(json.loads(text) if text else crashed), "killed_by": os.WTERMSIG(ended)}


def main(good: str) -> None:
    """Warm up, then answer one line with one line until there are no more."""
    import adbc_driver_sqlite.dbapi  # noqa: F401  # with pandas, which an ingest of files no longer brings

    from zebra_assets.cli.main import cli

    answers, complaints = sys.stdout, sys.stderr
    for words in (["ingest", "rows"], ["list", "datasets"], ["show", "--", "x"], ["verify", "--", "x"], ["diff", "--", "x", "y"]):
        sys.stdout = sys.stderr = said = io.StringIO()
        with suppress(SystemExit):
            cli.main(["--project", good, *words])
        sys.stdout, sys.stderr = answers, complaints
        assert "bug" not in said.getvalue(), said.getvalue()
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(forked(asked["words"], asked["env"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
