"""A private MariaDB on 127.0.0.1, in a folder of its own, as a fixture."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.adapters.s3_servers import free_port


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    """SQLAlchemy URL of its database ``shop``; skips where there is no server to start."""
    server = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    installer = shutil.which("mariadb-install-db")
    if server is None or installer is None:
        pytest.skip("MariaDB's server programs are not installed (apt-get install mariadb-server)")
    folder = Path(f"/tmp/zebra-mariadb-{uuid.uuid4().hex[:8]}")  # a socket's path may have 107 bytes
    folder.mkdir()
    own = [f"--datadir={folder / 'data'}", *(["--user=root"] if os.geteuid() == 0 else [])]
    process = None
    try:
        install = [installer, "--no-defaults", *own, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True, timeout=120)
        port = free_port()
        argv = [server, "--no-defaults", *own, f"--socket={folder / 's'}", "--bind-address=127.0.0.1", f"--port={port}"]
        quick = ["--innodb-flush-method=fsync", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve", "--performance-schema=off"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*argv, *quick], cwd=folder, stdout=log, stderr=log)
        url = f"mysql+pymysql://root@127.0.0.1:{port}"
        _create(url, folder / "log")
        yield f"{url}/shop"
    finally:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _create(url: str, log: Path) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    for _ in range(150):
        try:
            with engine.connect() as connection:
                connection.execute(sa.text("create database shop character set utf8mb4 collate utf8mb4_bin"))
            engine.dispose()
            return
        except sa.exc.OperationalError:
            time.sleep(0.1)
    pytest.fail(f"MariaDB did not start: {log.read_text()[-2000:]}")
