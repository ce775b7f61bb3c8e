"""A throw-away PostgreSQL on 127.0.0.1 as a process of its own, which can be killed, frozen and started again."""

import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from tests.adapters.s3_servers import free_port


class Cluster:
    """One data folder and its server.

    Attributes:
        url: the server's; a database's name goes behind it.
    """

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs, self._folder, self._user, self._port = programs, folder, user, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://zebra@127.0.0.1:{self._port}"
        self._run("initdb", "-D", "data", "-U", "zebra", "-A", "trust", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Start, after a `kill` too, and wait until it answers."""
        options = ["-c", "listen_addresses=127.0.0.1", "-p", str(self._port), "-k", str(self._folder), "-c", "fsync=off"]
        with (self._folder / "log").open("ab") as log:
            # Not by pg_ctl: a server that is nobody's child stays a zombie where the first process does not reap, and bars its own return.
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", "data", *options], cwd=self._folder, stdout=log, stderr=log, user=self._user
            )
        for _ in range(600):
            if self._process.poll() is None and self._answers():
                return
            time.sleep(0.1)
        pytest.fail(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL for every process of it."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait(60)

    def freeze(self) -> None:
        """It keeps its connections, and the kernel goes on to confirm what is sent on them; nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            psycopg2.connect(f"{self.url}/postgres", connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _signal(self, number: int) -> None:
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        first.send_signal(signal.SIGSTOP)  # so that no child is born that nobody counts
        for process in [*first.children(recursive=True), first]:
            if process.is_running():
                process.send_signal(number)

    def _run(self, *argv: str) -> None:
        subprocess.run(
            [str(self._programs / argv[0]), *argv[1:]], check=True, cwd=self._folder, capture_output=True, user=self._user, timeout=60
        )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server; skips where there is none to start."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed (apt-get install postgresql)")
    folder = Path(f"/tmp/zebra-pg-{uuid.uuid4().hex[:8]}")  # a socket's path must be short, and pytest's folders are closed to others
    folder.mkdir(mode=0o700)
    try:
        made = Cluster(programs, folder, _unprivileged(folder))
        made.start()
        try:
            yield made
        finally:
            made.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = shutil.which("pg_ctl")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "initdb").exists()), None)


def _unprivileged(folder: Path) -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("running as root, and there is no user 'postgres' to run PostgreSQL as")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return account.pw_name
